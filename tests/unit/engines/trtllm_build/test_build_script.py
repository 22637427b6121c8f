"""The build's script: every option of it stands in trtllm-build's list, and only architectures with a converter."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.config.engine import EngineConfig
from slipway.engines.contract import load_contract
from slipway.engines.driver import Limits
from slipway.engines.model_facts import ModelFacts, read_model
from slipway.engines.trtllm_build.build_script import build_script, family
from slipway.errors import ConfigError
from tests.support.engine_models import labelled_model

CONTRACT = load_contract("trtllm_build", "1.2.1")
LISTED = {o["name"] for o in json.loads(Path("tests/contracts/trtllm/trtllm-build.json").read_text())["options"]}
LIMITS = Limits(context=4096, slots=8, batched_tokens=4096, kv_dtype="bf16", tensor_parallel=2)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> ModelFacts:
    return read_model(labelled_model(tmp_path_factory.mktemp("model")))


def script(facts: ModelFacts, limits: Limits = LIMITS, **options: Any) -> list[list[str]]:
    params = EngineConfig(kind="trtllm-engine", image="trtllm-1.2", options=options)
    return [shlex.split(line) for line in build_script(facts, limits, params, CONTRACT).splitlines()]


def test_it_converts_and_builds_and_stops_at_the_first_failure(facts: ModelFacts) -> None:
    first, _, convert, build, last = script(facts)
    assert first == ["set", "-eu"]
    assert convert[1].endswith("/llama/convert_checkpoint.py")
    assert convert[convert.index("--tp_size") + 1] == "2"
    assert build[0] == "trtllm-build"
    options = {word for word in build if word.startswith("--")}
    assert options and options <= LISTED
    assert build[build.index("--workers") + 1] == "2"
    assert build[build.index("--max_seq_len") + 1] == "4096"
    assert build[build.index("--use_fp8_context_fmha") + 1] == "disable"
    assert last == ["rm", "-rf", "{cache}/checkpoint"]


def test_options_of_one_s_own_reach_trtllm_build(facts: ModelFacts) -> None:
    build = script(facts, multiple_profiles="enable", monitor_memory=True)[3]
    assert build[-3:] == ["--multiple_profiles", "enable", "--monitor_memory"]


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"max_batch": 1}, "engine option max_batch: unknown"),
        ({"max_batch_size": 1}, "engine.options.max_batch_size: 1"),
        ({"output_dir": "x"}, "engine.options.output_dir: x"),
        ({"multiple_profiles": "on"}, "engine option --multiple_profiles: on"),
    ],
)
def test_what_trtllm_build_does_not_know_is_refused(facts: ModelFacts, own: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        script(facts, **own)
    assert str(refused.value).startswith(message)


def test_an_architecture_without_a_converter_is_refused(facts: ModelFacts) -> None:
    assert family(facts) == "llama"
    with pytest.raises(ConfigError, match="architecture for trtllm-engine: GptOssForCausalLM"):
        family(replace(facts, architecture="GptOssForCausalLM"))
