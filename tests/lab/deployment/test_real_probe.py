"""The probe of a candidate with the real llama-server: a healthy restart passes, faults planted into weights and cache
are named. The same engines as those of kernel agreement (`benchmarks/kernel_agreement.py`)."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.kernel_agreement import FAULTS, letters_model, llama_server, plant
from slipway.config.engine import EngineConfig
from slipway.config.store import StoreConfig
from slipway.deployment.canary.candidate_probe import probe_candidate
from slipway.engines.llamacpp.build import ensure_build
from slipway.engines.llamacpp.convert import convert
from slipway.engines.probability_client import ProbabilityClient
from slipway.errors import EngineError
from slipway.evaluation.recorded_answers import asked_rows, record
from slipway.system.progress import Progress

SEED = 600  # bf16


class Planted:
    """One model, served healthy or with a fault."""

    def __init__(self, folder: Path) -> None:
        self._build = ensure_build(EngineConfig(), Path(StoreConfig().cache).expanduser(), Progress())
        self._healthy, self._served = folder / "healthy.gguf", folder / "served.gguf"
        convert(self._build, letters_model(folder / "model", SEED), self._healthy, "bf16")

    @contextmanager
    def serve(self, fault: str = "") -> Iterator[str]:
        """Its URL for the time of the block."""
        file = Path(shutil.copy2(self._healthy, self._served))
        options = plant(fault, SEED, file, self._build.root / "gguf-py") if fault else []
        with llama_server(self._build.server, file, options) as url:
            yield url


def test_a_healthy_restart_passes_and_each_fault_is_named(tmp_path: Path) -> None:
    planted, draw = Planted(tmp_path), random.Random(SEED)
    texts = [f"switch number {draw.randrange(100)} on and then {draw.randrange(100)} off" for _ in range(12)]
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "{}"}] for text in texts]
    rows = [{"id": f"r{i}", "label": "x", "messages": turn} for i, turn in enumerate(turns)]
    with planted.serve() as url:
        recorded = record(ProbabilityClient(url, "slipway", 120), asked_rows(rows, 12, 32, 384), 4, lambda _: None)
    with planted.serve() as url:
        report = probe_candidate(url, "slipway", recorded, slowest=None)
    assert report.drift.failed == [] and report.drift.tokens > 500
    names = {}
    for fault in FAULTS:
        with planted.serve(fault) as url, pytest.raises(EngineError, match="probe of the candidate: ") as caught:
            probe_candidate(url, "slipway", recorded, slowest=None)
        names[fault] = caught.value.thing.removeprefix("probe of the candidate: ")
    assert set(names) == set(FAULTS) and set(names.values()) <= {
        "loops",
        "unlikely_token",
        "log_probability",
        "unequal",
    }
