"""`engine.kind: auto`: what is chosen for which machine and workload, by which rules, and what is refused."""

import re

import pytest

from slipway.config.engine import EngineConfig, WorkloadConfig
from slipway.config.load import load_config
from slipway.config.model import ModelConfig
from slipway.config.quantize import QuantizeConfig
from slipway.config.target import TargetConfig
from slipway.engines.choose import ENGINES, IMAGES, choose, resolved, rules
from slipway.errors import ConfigError
from tests.support.shapes import LLAMA_70B, MIXTURE

CONFIG = load_config()


def target(name):
    return load_config(overrides=[f"layers.serving=targets/{name}"]).serving


def engine(**workload):
    return EngineConfig(kind="auto", workload=workload)


@pytest.mark.parametrize(
    ("machine", "model", "weights", "workload", "expected"),
    [
        ("local", LLAMA_70B, "nvfp4a16", {}, "llama.cpp"),
        ("spark", LLAMA_70B, "nvfp4", {}, "vllm"),
        ("spark-pair", LLAMA_70B, "nvfp4", {}, "vllm"),
        ("dgx-h100", LLAMA_70B, "nvfp4", {}, "vllm"),
        ("dgx-h100", LLAMA_70B, "fp8", {"users": 64, "starts_a_day": 1 / 7}, "trtllm"),
        ("dgx-h100", LLAMA_70B, "fp8", {"users": 64, "starts_a_day": 24}, "vllm"),
        ("dgx-h100", LLAMA_70B, "fp8", {"users": 2}, "vllm"),
        ("dgx-b200", LLAMA_70B, "nvfp4", {}, "trtllm"),
        ("dgx-b200", LLAMA_70B, "nvfp4", {"hours_a_day": 2}, "vllm"),
        ("dgx-b200", MIXTURE, "nvfp4", {}, "vllm"),
    ],
)
def test_the_engine_follows_machine_format_and_workload(machine, model, weights, workload, expected):
    choice = choose(engine(**workload), model, QuantizeConfig(format=weights), target(machine))
    assert choice.engine == expected
    assert choice.rows()[0][0] == expected or all(row[0] != expected for row in choice.rows())
    assert choice.lines()[0] == f"engine.kind=auto: {expected}"


def test_a_format_that_an_engine_does_not_run_there_is_its_refusal():
    choice = choose(engine(), LLAMA_70B, QuantizeConfig(format="nvfp4"), target("dgx-h100"))
    refusals = [row for row in choice.rows() if row[1] == "refused" and row[0] == "trtllm"]
    assert any("nvfp4" in row[2] and "sm_90" in row[2] for row in refusals)
    mixed = QuantizeConfig(format="fp8", rules={"*down_proj": "nvfp4", "*lm_head": "bf16"})
    assert any(v.points is None and v.engine == "trtllm" for v in choose(engine(), LLAMA_70B, mixed, H100).verdicts)


H100 = target("dgx-h100")


def test_where_all_are_refused_every_reason_is_given():
    old = TargetConfig(name="old", gpus=1, gpu_memory_gb=16, compute_capability="sm_70")
    with pytest.raises(ConfigError, match=r"engine for old: none: .*vllm: .*trtllm: .*quantize\.format"):
        choose(engine(), LLAMA_70B, QuantizeConfig(format="nvfp4"), old)
    with pytest.raises(ConfigError, match="compute capability of target x"):
        choose(engine(), LLAMA_70B, QuantizeConfig(), TargetConfig(name="x", gpus=1, gpu_memory_gb=16))


def test_auto_becomes_an_engine_and_its_image_and_a_named_engine_stays():
    section, choice = resolved(engine(), ModelConfig(), QuantizeConfig(format="nvfp4"), target("spark"))
    assert (section.kind, section.image, choice.engine) == ("vllm", "vllm", "vllm")
    assert resolved(EngineConfig(), ModelConfig(), QuantizeConfig(), target("spark")) == (EngineConfig(), None)
    embedded, _ = resolved(engine(), ModelConfig(), QuantizeConfig(), TargetConfig())
    assert embedded.key_document() == EngineConfig().key_document(), "what was chosen for decides no byte"
    own = EngineConfig(kind="auto", python="/opt/vllm/bin/python")
    section, _ = resolved(own, ModelConfig(), QuantizeConfig(format="nvfp4"), target("spark"))
    assert (section.image, section.python) == (None, "/opt/vllm/bin/python")
    busy = own.model_copy(update={"workload": WorkloadConfig(users=64, starts_a_day=0.1)})
    assert resolved(busy, LLAMA_70B, QuantizeConfig(format="fp8"), H100)[0].kind == "vllm", "only vLLM runs so"
    assert set(IMAGES.values()) <= set(CONFIG.images)


def test_every_rule_has_a_reason_a_source_and_a_date_and_asks_for_facts_that_there_are():
    names = {"gpus", "nodes", "sm", "users", "hours_per_start", "mixture", "formats"}
    for rule in rules():
        assert rule["engine"] in ENGINES and rule["reason"] and rule["source"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", rule["read"])
        assert set(rule["when"]) <= names
        assert ("points" in rule) != ("refuse" in rule)
