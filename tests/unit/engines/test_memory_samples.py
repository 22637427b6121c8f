"""Memory of a server: the process and its children, thinned when it serves long, gone when it is gone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipway.engines import memory_samples
from slipway.engines.memory_samples import MemorySamples, resident_bytes
from slipway.runners.base import Job
from slipway.runners.local import LocalRunner
from tests.support.nemo import wait_for

HOLDER = "import subprocess, sys; held = bytearray(80 << 20); print(1, flush=True); sys.stdin.read()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDER!r}])"


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout and process.stdin
        process.stdout.readline()
        yield process
        process.stdin.close()


def test_children_count_and_a_process_that_is_gone_has_none(parent: subprocess.Popen[str]) -> None:
    assert resident_bytes(parent.pid) > 80 << 20
    assert resident_bytes(2**22 + 1) == 0


def test_a_local_server_is_sampled_while_the_block_runs(tmp_path: Path) -> None:
    runner, job = LocalRunner(), Job("server", (sys.executable, "-c", "import time; time.sleep(60)"), tmp_path)
    runner.submit(job)
    endpoint: Any = SimpleNamespace(runner=runner, job=job)
    try:
        with MemorySamples(endpoint, every_s=0.01) as samples:
            wait_for(lambda: len(samples.pairs) > 3)
    finally:
        runner.cancel(job)
    assert all(nbytes > 1 << 20 for _, nbytes in samples.pairs)
    assert [at for at, _ in samples.pairs] == sorted(at for at, _ in samples.pairs)


def test_long_runs_keep_a_bounded_number_of_samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory_samples, "MOST", 8)
    runner, job = LocalRunner(), Job("server", (sys.executable, "-c", "import time; time.sleep(60)"), tmp_path)
    runner.submit(job)
    endpoint: Any = SimpleNamespace(runner=runner, job=job)
    try:
        with MemorySamples(endpoint, every_s=0.001) as samples:
            wait_for(lambda: samples.pairs and samples.pairs[-1][0] > 0.2)
            assert len(samples.pairs) <= 9
    finally:
        runner.cancel(job)


def test_a_server_elsewhere_is_not_sampled() -> None:
    endpoint: Any = SimpleNamespace(runner=object())
    with MemorySamples(endpoint) as samples:
        pass
    assert samples.pairs == []
