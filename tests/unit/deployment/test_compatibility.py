"""Which bundle may go to which row of conf/targets, and what has to run again where it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.layers import read_mapping
from slipway.config.load import load_config, section
from slipway.config.target import TargetConfig
from slipway.deployment.compatibility import (
    command_again,
    computes,
    format_for,
    misfits,
    require_compatible,
    stages_again,
)
from slipway.engines.bundle_key import KeyDocument, key_document
from slipway.engines.driver import Limits, ServePlan
from slipway.engines.format_support import capability
from slipway.engines.machine_facts import UNKNOWN, MachineFacts
from slipway.errors import ConfigError

ROWS = {p.stem: p for p in sorted(Path("conf/targets").glob("*.yaml"))}
GPU_ROWS = sorted(name for name, path in ROWS.items() if read_mapping(path).get("gpus"))


def row(name: str) -> TargetConfig:
    """A row of conf/targets/."""
    target: TargetConfig = section("serving", read_mapping(ROWS[name]), ())
    return target


def plan_for(name: str, weights: str = "nvfp4", **more: Any) -> ServePlan:
    """A vLLM plan as it would be made for a row, in what that row's GPU computes for these weights."""
    words = computes("vllm", weights, capability(row(name).compute_capability, name))
    values: dict[str, Any] = {
        "kind": "vllm",
        "target": name,
        "argv": ["vllm", "serve", "{model}", "--port", "{port}"],
        "limits": Limits(context=4096, slots=8),
        "weights": weights,
        "computes": sorted(words)[0],
        "memory": {"weights": 40e9, "kv_cache": 10e9},
    }
    return ServePlan(**{**values, **more})


def facts_of(name: str, **more: str) -> MachineFacts:
    """What a machine of a row answers."""
    target = row(name)
    words = {
        "architecture": {"amd64": "x86_64", "arm64": "aarch64"}[target.arch],
        "cpu": "c" * 12,
        "gpu": f"{target.gpus} x GPU of {name}",
        "capability": target.compute_capability or "none",
        "gpu_memory": str(target.gpu_memory_gb),
        "driver": "580.95.05",
    }
    return MachineFacts(**{**words, **more})


def caches_of(name: str) -> KeyDocument:
    return key_document(plan_for(name), facts_of(name), "w" * 64)


@pytest.mark.parametrize("name", GPU_ROWS)
def test_a_bundle_goes_to_the_row_it_was_made_for(name: str) -> None:
    plan, facts = plan_for(name, "fp8"), facts_of(name)
    assert misfits(plan, row(name), row(name), key_document(plan, facts, "w" * 64), facts) == []
    require_compatible(plan, row(name), row(name), "x")


@pytest.mark.parametrize("source", GPU_ROWS)
@pytest.mark.parametrize("target", GPU_ROWS)
@pytest.mark.parametrize("weights", ["bf16", "fp8", "nvfp4", "nvfp4a16"])
def test_on_every_other_row_the_engine_and_the_gate_run_again(source: str, target: str, weights: str) -> None:
    """And the weights are quantized again where one of the two GPUs has no FP4 tensor cores and they are W4A4."""
    if source == target:
        return
    plan = plan_for(source, weights)
    differences = misfits(plan, row(source), row(target))
    otherwise = weights == "nvfp4" and (source == "dgx-h100") != (target == "dgx-h100")
    expected = (*(("quantize",) if otherwise else ()), "engine", "evaluate", "gate")
    assert stages_again(differences) == expected


def test_nvfp4_of_a_spark_becomes_fp8_on_an_h100() -> None:
    plan = plan_for("spark")
    with pytest.raises(ConfigError) as err:
        require_compatible(plan, row("spark"), row("dgx-h100"), "dgx-slurm", caches_of("spark"))
    message = str(err.value)
    for words in ("GPU: sm_121, here sm_90", "CPU architecture: arm64, here amd64", "caches' capability: sm_121"):
        assert words in message
    assert "format nvfp4: W4A4 NVFP4, here W4A16 NVFP4" in message
    assert "run again quantize, engine, evaluate, gate: `slipway run layers.serving=targets/dgx-h100 " in message
    assert "layers.quantize=formats/fp8" in message


def test_nvfp4_of_a_spark_stays_nvfp4_on_a_b200_and_its_caches_do_not_go() -> None:
    differences = misfits(plan_for("spark"), row("spark"), row("dgx-b200"), caches_of("spark"))
    assert stages_again(differences) == ("engine", "evaluate", "gate")
    assert "caches' capability: sm_121, here sm_100" in map(str, differences)


@pytest.mark.parametrize("field", ["architecture", "capability", "cpu", "gpu", "gpu_memory", "driver"])
@pytest.mark.parametrize("value", ["another", UNKNOWN])
def test_caches_of_another_machine_are_named_by_field(field: str, value: str) -> None:
    plan, name = plan_for("spark"), "spark"
    differences = misfits(plan, row(name), row(name), caches_of(name), facts_of(name, **{field: value}))
    assert f"caches' {field}" in [one.subject for one in differences]


def test_a_machine_that_is_not_what_its_row_says_is_refused() -> None:
    differences = misfits(plan_for("spark"), row("spark"), row("spark"), None, facts_of("dgx-h100"))
    subjects = [str(one) for one in differences]
    assert subjects == ["GPU that answered: sm_121, here sm_90", "CPU that answered: arm64, here amd64"]


def test_an_engine_that_is_too_large_or_has_too_many_ranks_is_named_in_figures() -> None:
    large = plan_for("dgx-b200", "fp8", memory={"weights": 150e9})
    assert "GB of one GPU: 150.0, here 74.0" in map(str, misfits(large, row("dgx-b200"), row("dgx-h100")))
    wide = plan_for("dgx-b200", "fp8", limits=Limits(context=4096, slots=8, tensor_parallel=8))
    assert "GPUs: 8, here 1" in map(str, misfits(wide, row("dgx-b200"), row("spark")))
    assert "GPUs: an engine for a GPU, here none" in map(str, misfits(wide, row("dgx-b200"), row("local")))


def test_a_server_compiled_for_this_cpu_goes_where_the_cpu_is_the_same() -> None:
    plan = plan_for("spark", "bf16").model_copy(update={"kind": "llama.cpp", "target": "local", "cpu": "a" * 12})
    none = dict.fromkeys(("gpu", "capability", "gpu_memory", "driver"), "none")
    same = facts_of("local", cpu="a" * 12, **none)
    assert misfits(plan, row("local"), row("local"), None, same) == []
    (difference,) = misfits(plan, row("local"), row("local"), None, same.model_copy(update={"cpu": "b" * 12}))
    assert str(difference) == f"CPU instructions: {'a' * 12}, here {'b' * 12}"


@pytest.mark.parametrize(
    ("source", "target", "weights"),
    [("spark", "dgx-h100", "nvfp4"), ("dgx-h100", "spark", "fp8"), ("local", "spark", "bf16")],
)
def test_the_command_that_is_printed_is_one_that_the_config_takes(source: str, target: str, weights: str) -> None:
    plan = plan_for("spark", weights).model_copy(update={"target": source})
    differences = misfits(plan, row(source), row(target))
    words = command_again(differences, plan, row(target), "local").split()
    assert words[:2] == ["slipway", "run"]
    config = load_config(Path("conf"), words[2:])
    assert config.serving.name == target
    if "quantize" in stages_again(differences):
        sm = capability(config.serving.compute_capability, target)
        assert computes("vllm", config.quantize.format, sm)


def test_the_format_follows_the_gpu() -> None:
    names = {name: format_for("vllm", row(name)) for name in ROWS}
    assert names == {"dgx-b200": "nvfp4", "dgx-h100": "fp8", "spark": "nvfp4", "spark-pair": "nvfp4", "local": None}
    assert format_for("trtllm", row("dgx-h100")) == "fp8"


def test_a_llama_cpp_bundle_is_made_again_for_a_gpu_by_an_engine_that_has_one() -> None:
    plan = plan_for("spark", "bf16").model_copy(update={"kind": "llama.cpp", "target": "local"})
    command = command_again(misfits(plan, row("local"), row("spark")), plan, row("spark"), "spark")
    assert "engine.kind=vllm engine.image=vllm" in command
