"""What the processes of the tests have in common: the order of the files, and how they share two cores and a disk.

Those files that take longest begin first, so that no process ends minutes after the others.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from pathlib import Path

import pytest

from slipway.system import openmp
from tests.support import room_times

ROOT = Path(__file__).resolve().parents[1]

# Files of more than about a minute, longest first; whatever is not named keeps its place behind them
LONGEST = (
    "tests/flow/test_flow.py",
    "tests/lab/deployment/test_prefect_deployment.py",
    "tests/flow/test_examples.py",
    "tests/lab/training/test_nemo.py",
    "tests/lab/quantization/test_modelopt_parity.py",
    "tests/flow/test_decisions.py",
    "tests/flow/test_benchmarks.py",
    "tests/flow/test_stopping.py",
    "tests/lab/training/test_train_nemo.py",
    "tests/flow/test_retrain.py",
    "tests/unit/streaming/test_directories.py",
    "tests/unit/streaming/test_stream.py",
    "tests/unit/streaming/test_export.py",
)


# The imports of all tests make millions of objects that live until the end, and each full collection walks through them
# again: half of the time of collecting the tests, a quarter of the time of running small ones.
gc.disable()

# Programs that tests start wait as stages do. Here because OpenMP reads it when torch is imported, which tests do
os.environ.update({name: os.environ.get(name, value) for name, value in openmp.ENVIRONMENT.items()})

# Where PYTHONDONTWRITEBYTECODE is set, as in many images, each process would rewrite the assertions of all files at
# each run, a third of the time of collecting them. Until they are collected it is not heeded.
WRITES_NO_BYTECODE = sys.dont_write_bytecode

# The machine's lease is for one piece of work at a time; test processes work beside one another
os.environ["SLIPWAY_LEASE"] = tempfile.mkdtemp(prefix="slipway-lease-")


def pytest_configure(config: pytest.Config) -> None:
    """pytest-xdist begins with the files that have most tests; the longest have few."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    os.fsync = is_open
    sys.dont_write_bytecode = False


def is_open(fd: int) -> None:
    """In place of `os.fsync`: no test cuts the power, and waits for the disk took a third of the time of the tests of
    deployment. Raises OSError for a descriptor that is not open. Processes that a test starts do wait."""
    os.fstat(fd)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by `LONGEST`; the order within a file, and of all other files, stays."""
    rank = {ROOT / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_collection_finish() -> None:
    """From here on the garbage collector looks at what tests make, not at what was imported."""
    sys.dont_write_bytecode = WRITES_NO_BYTECODE
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """With `--durations`, as in `make test`: what each room and the longest files took."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind if hasattr(report, "duration")]
    if terminalreporter.config.option.durations and reports:
        terminalreporter.section("what the rooms took")
        for line in room_times.lines(reports):
            terminalreporter.write_line(line)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Torch computes on one thread in these processes, as there are more of them than cores: two threads that wait for
    each other at hundreds of barriers a forward pass cost up to three times the work. What a test sets itself, and the
    processes that it starts, are as in use."""
    torch = sys.modules.get("torch")
    if torch and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
