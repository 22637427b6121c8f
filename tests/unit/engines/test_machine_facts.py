"""Facts from the probe's line: of this machine, through a runner's job, and from whatever else stands in the output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.engines.driver import Limits, ServePlan
from slipway.engines.machine_facts import NONE, UNKNOWN, facts_through, local_facts, parse_probe
from slipway.errors import EngineError
from slipway.runners.local import LocalRunner
from slipway.system.processor import cpu_digest

GPU = {"name": "NVIDIA GB10", "compute_cap": "12.1", "driver_version": "580.95.05", "memory.total": "[N/A]"}
LINE: dict[str, Any] = {
    "arch": "aarch64",
    "python": "3.12.3",
    "cpu_words": ["asimddp", "sve2"],
    "versions": {"vllm": "0.27.1", "torch": "2.11.0", "triton": "3.6.0"},
    "gpus": [GPU],
    "torch_cuda": "13.0",
    "errors": {},
}
LLAMA = ServePlan(kind="llama.cpp", argv=["{bundle}/llama-server"], limits=Limits(context=128, slots=1))


def printed(**changes: object) -> str:
    return json.dumps({"machine_probe": {**LINE, **changes}})


def test_facts_of_a_gpu_machine() -> None:
    facts = parse_probe("vllm", f"== NVIDIA banner ==\n{printed()}\n")
    assert facts.gpu == "1 x NVIDIA GB10"
    assert (facts.capability, facts.driver, facts.cuda) == ("sm_121", "580.95.05", "13.0")
    assert (facts.engine, facts.torch) == ("0.27.1", "2.11.0")
    assert facts.compilers == "triton=3.6.0 flashinfer-python=none"


def test_unlike_cards_stand_beside_each_other() -> None:
    other = {**GPU, "name": "NVIDIA H100", "compute_cap": "9.0"}
    facts = parse_probe("vllm", printed(gpus=[GPU, other]))
    assert facts.gpu == "2 x NVIDIA GB10 + NVIDIA H100"
    assert facts.capability == "sm_121 + sm_90"


def test_a_machine_without_a_gpu_is_known_to_have_none() -> None:
    facts = parse_probe("llama.cpp", printed(gpus=[]))
    assert (facts.gpu, facts.driver, facts.torch, facts.engine) == (NONE, NONE, NONE, NONE)


def test_what_the_probe_left_out_is_unknown() -> None:
    line = {name: value for name, value in LINE.items() if name not in ("gpus", "torch_cuda")}
    facts = parse_probe("vllm", json.dumps({"machine_probe": {**line, "versions": {}}}))
    assert {facts.gpu, facts.capability, facts.driver, facts.engine, facts.torch, facts.cuda} == {UNKNOWN}


@pytest.mark.parametrize("output", ["", "Traceback ...", "{}", "[1]", '{"machine_probe": 3}', '{"machine_probe": {}}'])
def test_output_without_the_probes_line_is_an_error(output: str) -> None:
    with pytest.raises(EngineError, match="probe of the machine"):
        parse_probe("vllm", output)


def test_this_machine_needs_no_engine_to_be_known() -> None:
    facts = local_facts(LLAMA)
    assert facts.cpu == cpu_digest()
    assert UNKNOWN not in facts.model_dump().values()


def test_a_runner_carries_the_probe(tmp_path: Path) -> None:
    facts = facts_through(LocalRunner(), "llama.cpp", tmp_path / "probe", "probe-1", sys.executable)
    assert facts == local_facts(LLAMA)


def test_a_probe_that_fails_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="exit code"):
        facts_through(LocalRunner(), "llama.cpp", tmp_path / "probe", "probe-2", "/bin/false")
