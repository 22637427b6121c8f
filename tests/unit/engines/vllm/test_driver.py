"""vLLM's plan on every target, in its image and in an environment; every option of it stands in the contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.start_plan import PLACEHOLDERS
from slipway.config.engine import EngineConfig
from slipway.engines.bundle_key import key_document, misses
from slipway.engines.driver import ServePlan
from slipway.engines.machine_facts import MachineFacts
from slipway.engines.vllm.driver import CACHES, DRIVER
from slipway.errors import ConfigError
from tests.support.engine_models import DIGEST, image, labelled_model, modelopt, target

LISTED = {
    name
    for option in json.loads(Path("tests/contracts/vllm/serve-0.26.0.json").read_text())["options"]
    for name in option["flags"]
}
GPU_TARGETS = ("spark", "spark-pair", "dgx-h100", "dgx-b200")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    sections = {"bf16": None, "fp8": modelopt("FP8"), "nvfp4": modelopt("NVFP4"), "nvfp4a16": modelopt("W4A16_NVFP4")}
    return {name: labelled_model(tmp_path_factory.mktemp(name), section) for name, section in sections.items()}


def planned(model: Path, row: str, **keys: Any) -> ServePlan:
    keys = keys or {"image": "vllm"}
    params = EngineConfig.model_validate({"kind": "vllm", "context": 256, **keys})
    return DRIVER.plan(model, params, target(row), image(params.image) if params.image else None)


@pytest.mark.parametrize("row", GPU_TARGETS)
@pytest.mark.parametrize("name", ["bf16", "fp8", "nvfp4", "nvfp4a16"])
@pytest.mark.parametrize("keys", [{"image": "vllm"}, {"image": "vllm-openai"}, {"python": "/opt/vllm/bin/python"}])
def test_every_option_of_a_plan_is_listed(models: dict[str, Path], row: str, name: str, keys: dict[str, str]) -> None:
    plan = planned(models[name], row, **keys)
    options = [word for word in plan.argv if word.startswith("--")]
    assert len(options) > 8
    assert set(options) <= LISTED
    assert len(options) == len(set(options))
    assert plan.weights == name
    assert plan.target == row
    assert ServePlan.model_validate_json(plan.model_dump_json()) == plan


def test_in_its_image_the_command_is_pinned_and_the_entrypoint_kept(models: dict[str, Path]) -> None:
    plan = planned(models["bf16"], "spark", image="vllm")
    assert plan.image == f"nvcr.io/nvidia/vllm@{DIGEST}"
    assert plan.argv[:5] == ["vllm", "serve", "{model}", "--port", "{port}"]
    assert planned(models["bf16"], "spark", image="vllm-openai").argv[:3] == ["{model}", "--port", "{port}"]
    assert any("0.27.1" in note for note in plan.notes)


def test_in_an_environment_its_module_is_run(models: dict[str, Path]) -> None:
    plan = planned(models["bf16"], "dgx-h100", python="/opt/vllm/bin/python")
    assert plan.image is None
    assert plan.argv[:5] == ["/opt/vllm/bin/python", "-m", "vllm.entrypoints.cli.main", "serve", "{model}"]
    assert plan.contract == "vllm serve 0.26.0"
    assert plan.notes == []


def test_only_known_places_are_left_for_a_start(models: dict[str, Path]) -> None:
    plan = planned(models["bf16"], "spark")
    places = {f"{{{name}}}" for name in PLACEHOLDERS}
    words = [*plan.argv, *plan.environment.values()]
    assert {word.split("/")[0] for word in words if word.startswith("{")} <= places
    assert {"{model}", "{port}", "{host}"} <= set(plan.argv)
    assert {plan.environment[cache.variable] for cache in CACHES} == {f"{{cache}}/{cache.path}" for cache in CACHES}


def test_four_bits_on_a_hopper_are_not_called_w4a4(models: dict[str, Path]) -> None:
    plan = planned(models["nvfp4"], "dgx-h100")
    assert (plan.weights, plan.computes) == ("nvfp4", "W4A16 NVFP4")
    assert any("weight-only" in note for note in plan.notes)
    assert planned(models["nvfp4"], "dgx-b200").computes == "W4A4 NVFP4"
    emulated = planned(models["nvfp4"], "dgx-h100", image="vllm", flags={"linear_backend": "emulation"})
    assert emulated.computes == "W4A4 NVFP4"


def test_two_sparks_serve_together_each_with_its_own_rank(models: dict[str, Path]) -> None:
    plan = planned(models["bf16"], "spark-pair", image="vllm", tensor_parallel=2)
    assert plan.argv[:2] == ["bash", "-c"]
    assert plan.argv[3:6] == ["vllm", "serve", "{model}"]
    assert '--node-rank "$SLURM_NODEID"' in plan.argv[2]
    assert "VLLM_HOST_IP" not in plan.environment
    assert planned(models["bf16"], "spark-pair").argv[0] == "vllm"
    assert planned(models["bf16"], "spark-pair", image="vllm-openai", tensor_parallel=2).argv[3:5] == ["vllm", "serve"]
    own = planned(models["bf16"], "spark-pair", python="/opt/vllm/bin/python", tensor_parallel=2)
    assert own.argv[3:7] == [
        "/opt/vllm/bin/python",
        "-m",
        "vllm.entrypoints.cli.main",
        "serve",
    ]  # which takes --headless


def test_a_server_drains_within_its_stop(models: dict[str, Path]) -> None:
    plan = planned(models["bf16"], "spark", image="vllm", drain_s=45)
    assert plan.argv[plan.argv.index("--shutdown-timeout") + 1] == "45"
    assert plan.stop_s > 45


def test_own_options_are_rendered_after_ours(models: dict[str, Path]) -> None:
    plan = planned(
        models["bf16"], "spark", image="vllm", flags={"moe-backend": "marlin", "enable-prefix-caching": False}
    )
    assert plan.argv[-3:] == ["--moe-backend", "marlin", "--no-enable-prefix-caching"]


@pytest.mark.parametrize(
    ("row", "keys", "message"),
    [
        (
            "spark",
            {"image": "vllm", "flags": {"enable-sleep-mode": True}},
            "engine.flags.enable-sleep-mode: true on spark",
        ),
        ("spark", {"image": "vllm", "flags": {"max-num-seq": 1}}, "engine option max-num-seq: unknown"),
        ("spark", {"image": "vllm", "flags": {"max-num-seqs": 1}}, "engine.flags.max-num-seqs: 1"),
        ("local", {"image": "vllm"}, "target local: no GPU"),
        ("spark", {"slots": 8}, "engine.image and engine.python: neither given"),
        ("spark", {"python": "p", "contract": "x"}, "contract of an image or of engine.contract: x"),
    ],
)
def test_what_cannot_be_served_so_is_refused(
    models: dict[str, Path], row: str, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        planned(models["bf16"], row, **keys)
    assert str(refused.value).startswith(message), refused.value


def test_sleep_mode_is_allowed_where_gpus_have_their_own_memory(models: dict[str, Path]) -> None:
    assert (
        "--enable-sleep-mode"
        in planned(models["bf16"], "dgx-h100", image="vllm", flags={"enable-sleep-mode": True}).argv
    )


def test_an_image_that_is_not_pinned_is_looked_at_by_its_tag_and_never_planned(models: dict[str, Path]) -> None:
    row = image("vllm").model_copy(update={"digests": {}})
    params = EngineConfig(kind="vllm", image="vllm")
    assert DRIVER.draft(models["bf16"], params, target("spark"), row).image == "nvcr.io/nvidia/vllm:26.08-py3"
    with pytest.raises(ConfigError, match="pinned for none"):
        DRIVER.plan(models["bf16"], params, target("spark"), row)


def test_an_image_without_a_contract_is_refused(models: dict[str, Path]) -> None:
    row = image("vllm").model_copy(update={"contract": None})
    with pytest.raises(ConfigError, match="no contract"):
        DRIVER.plan(models["bf16"], EngineConfig(kind="vllm", image="vllm"), target("spark"), row)


def test_report_2_every_rendered_flag_and_variable_is_in_the_key(models: dict[str, Path]) -> None:
    """vllm#53366: a key that lacked a setting. Each word of the command and each variable is changed, and left out."""
    plan = planned(models["nvfp4"], "dgx-h100", image="vllm")
    facts = MachineFacts(**dict.fromkeys(MachineFacts.model_fields, "known"))

    def missed(**changed: Any) -> bool:
        return bool(misses(key_document(plan, facts, "w"), key_document(plan.model_copy(update=changed), facts, "w")))

    assert not missed()
    for index, word in enumerate(plan.argv):
        assert missed(argv=[*plan.argv[:index], f"{word}x", *plan.argv[index + 1 :]]), word
        assert missed(argv=[*plan.argv[:index], *plan.argv[index + 1 :]]), word
    for name, value in plan.environment.items():
        assert missed(environment={**plan.environment, name: f"{value}x"}), name
        assert missed(environment={other: text for other, text in plan.environment.items() if other != name}), name
