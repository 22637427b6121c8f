"""TensorRT-LLM's plan on every target: options and keys of the lists, formats that run, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.config.engine import EngineConfig
from slipway.engines.driver import ServePlan
from slipway.engines.trtllm.driver import DRIVER
from slipway.errors import ConfigError
from tests.support.engine_models import DIGEST, NVFP4_GROUP, compressed, image, labelled_model, modelopt, target

LISTS = Path("tests/contracts/trtllm")
KEYS = {field["name"] for field in json.loads((LISTS / "llm_args.json").read_text())["fields"]}
KV_KEYS = {field["name"] for field in json.loads((LISTS / "KvCacheConfig.json").read_text())["fields"]}


def listed(name: str) -> set[str]:
    options = json.loads((LISTS / name).read_text())["options"]
    return {spelling for option in options for spelling in [option["name"], *option.get("aliases", [])]}


SAFE = listed("trtllm-serve.json") & listed("trtllm-serve-1.2line.json") & listed("trtllm-serve-pre-removal.json")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    sections = {
        "bf16": None,
        "fp8": modelopt("FP8"),
        "nvfp4": modelopt("NVFP4"),
        "nvfp4a16": modelopt("W4A16_NVFP4"),
        "packed": compressed(NVFP4_GROUP, NVFP4_GROUP),
    }
    return {name: labelled_model(tmp_path_factory.mktemp(name), section) for name, section in sections.items()}


def planned(model: Path, row: str, name: str | None = "trtllm", **keys: Any) -> ServePlan:
    params = EngineConfig.model_validate({"kind": "trtllm", "context": 256, "image": name, **keys})
    return DRIVER.plan(model, params, target(row), image(name) if name else None)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("spark", "bf16"),
        ("spark", "nvfp4"),
        ("spark-pair", "nvfp4"),
        ("dgx-h100", "fp8"),
        ("dgx-h100", "bf16"),
        ("dgx-b200", "nvfp4"),
        ("dgx-b200", "fp8"),
    ],
)
def test_a_plan_holds_only_what_all_listed_releases_have(models: dict[str, Path], row: str, name: str) -> None:
    plan = planned(models[name], row)
    options = {word for word in plan.argv if word.startswith("--")}
    assert options and options <= SAFE
    document = yaml.safe_load(plan.files["serve.yaml"])
    assert set(document) <= KEYS
    assert set(document["kv_cache_config"]) <= KV_KEYS
    assert plan.argv[:4] == ["trtllm-serve", "{model}", "--port", "{port}"]
    assert plan.argv[plan.argv.index("--config") + 1] == "{bundle}/serve.yaml"
    assert plan.image == f"nvcr.io/nvidia/tensorrt-llm/release@{DIGEST}"
    assert ServePlan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    ("row", "name", "part"),
    [
        ("dgx-h100", "nvfp4", "no FP4 tensor cores"),
        ("spark", "nvfp4a16", "no weight-only NVFP4"),
        ("dgx-b200", "packed", "quantize.layout=modelopt"),
    ],
)
def test_a_format_that_does_not_run_there_is_refused(models: dict[str, Path], row: str, name: str, part: str) -> None:
    with pytest.raises(ConfigError) as refused:
        planned(models[name], row)
    assert part in str(refused.value)


def test_experts_on_a_spark_run_in_cutlass(tmp_path: Path) -> None:
    model = labelled_model(tmp_path / "m", None, num_experts=8)
    assert yaml.safe_load(planned(model, "spark").files["serve.yaml"])["moe_config"] == {"backend": "CUTLASS"}
    assert "moe_config" not in yaml.safe_load(planned(model, "dgx-b200").files["serve.yaml"])


def test_ranks_on_two_sparks_are_started_by_the_launcher(models: dict[str, Path]) -> None:
    plan = planned(models["nvfp4"], "spark-pair", tensor_parallel=2)
    assert plan.argv[:2] == ["trtllm-llmapi-launch", "trtllm-serve"]
    assert plan.argv[plan.argv.index("--gpus_per_node") + 1] == "1"
    assert plan.limits.tensor_parallel == 2


def test_tactics_are_a_cache_only_while_kernels_are_measured(models: dict[str, Path]) -> None:
    plan = planned(models["bf16"], "spark")
    assert plan.environment["TLLM_AUTOTUNER_CACHE_PATH"] == "{cache}/tactics.json"
    fixed = planned(models["bf16"], "spark", autotune=False)
    assert "TLLM_AUTOTUNER_CACHE_PATH" not in fixed.environment
    assert yaml.safe_load(fixed.files["serve.yaml"])["enable_autotuner"] is False


def test_a_section_that_nobody_listed_is_passed_on_and_named(models: dict[str, Path]) -> None:
    plan = planned(models["bf16"], "spark", options={"speculative_config": {"decoding_type": "MTP"}})
    assert yaml.safe_load(plan.files["serve.yaml"])["speculative_config"] == {"decoding_type": "MTP"}
    assert any("speculative_config" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"flags": {"max_batch": 1}}, "engine option max_batch: unknown"),
        ({"flags": {"tp_size": 1}}, "engine.flags.tp_size: 1"),
        ({"flags": {"extra_llm_api_options": "x.yaml"}}, "engine.flags.extra_llm_api_options: x.yaml"),
        ({"options": {"max_batchsize": 1}}, "engine key max_batchsize: unknown"),
        ({"options": {"moe_config": {"backend": "FAST"}}}, "engine key moe_config.backend: FAST"),
        ({"name": None}, "engine.image: none"),
    ],
)
def test_what_the_contract_does_not_know_is_refused(
    models: dict[str, Path], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        planned(models["bf16"], "spark", **keys)
    assert str(refused.value).startswith(message), refused.value


def test_flags_of_the_newer_releases_need_an_image_of_one(models: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="served_model_name: unknown"):
        planned(models["bf16"], "spark", flags={"served_model_name": "x"})
    row = image("trtllm").model_copy(update={"contract": "1.3.0rc24"})
    params = EngineConfig(kind="trtllm", image="trtllm", context=256, flags={"served_model_name": "x"})
    assert DRIVER.plan(models["bf16"], params, target("spark"), row).argv[-2:] == ["--served_model_name", "x"]
