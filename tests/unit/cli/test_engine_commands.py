"""`slipway engine show`: the plan of every engine, as text and as JSON, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.cli.engine_commands import command_lines
from slipway.engines.driver import ServePlan
from slipway.errors import ConfigError
from tests.support.engine_models import labelled_model, modelopt


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_model(tmp_path_factory.mktemp("model"))


def show(*words: object) -> str:
    return CliRunner().invoke(app, ["engine", "show", *map(str, words)], catch_exceptions=False).stdout


@pytest.mark.parametrize("kind", ["vllm", "trtllm", "trtllm-engine"])
@pytest.mark.parametrize("target", ["spark", "spark-pair", "dgx-h100", "dgx-b200"])
def test_every_engine_is_planned_for_every_target(model: Path, kind: str, target: str) -> None:
    plan = ServePlan.model_validate_json(
        show(model, "--kind", kind, "--target", target, "engine.context=256", "--json")
    )
    assert (plan.kind, plan.target) == (kind, target)
    assert plan.image and "@" not in plan.image, "rows that are not pinned are named by their tag"
    assert plan.limits.context == 256


def test_the_embedded_engine_is_planned_from_the_config_alone(model: Path) -> None:
    assert json.loads(show(model, "--json"))["kind"] == "llama.cpp"


def test_an_engine_left_to_the_rules_is_the_one_that_a_run_takes(model: Path) -> None:
    words = ("--target", "spark", "engine.kind=auto", "engine.context=256", "quantize.format=nvfp4", "--json")
    plan = json.loads(show(model, *words))
    assert plan["kind"] in ("vllm", "trtllm")
    assert plan["image"]


def test_a_person_sees_command_files_environment_memory_and_notes(model: Path) -> None:
    shown = show(model, "--kind", "trtllm", "--target", "spark", "engine.context=256")
    for part in (
        "trtllm-serve {model}",
        "--config {bundle}/serve.yaml",
        "serve.yaml\n  max_batch_size: 16",
        "MAX_JOBS=2",
    ):
        assert part in shown
    assert "memory of a GPU: kv_cache" in shown
    assert "Unified memory" in shown


def test_options_of_one_s_own_are_overrides(model: Path) -> None:
    words = ("--kind", "vllm", "--target", "spark", "engine.context=256", "engine.flags.max-logprobs=5")
    assert "--max-logprobs 5" in show(model, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "dgx-h100"), "format nvfp4"),
        (("--target", "spark", "engine.flags.max-batch=1"), "engine option max-batch: unknown"),
        (("--target", "spark", "engine.image=other"), "engine.image: other"),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    model = labelled_model(tmp_path / "m", modelopt("NVFP4"))
    with pytest.raises(ConfigError) as refused:
        show(model, "--kind", "trtllm", *words, "engine.context=256")
    assert str(refused.value).startswith(message)


def test_a_command_has_an_option_and_its_values_a_line() -> None:
    assert command_lines(["a", "--b", "1", "2", "--c", "x y", "{m}"]) == "a \\\n    --b 1 2 \\\n    --c 'x y' {m}"
