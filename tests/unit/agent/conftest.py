"""An agent with a target of its own for every test; no engine outlives one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from slipway.agent import processes
from slipway.agent.agent import Agent
from slipway.store.store import Store
from tests.support.agent import settings


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """With settings kept already."""
    agent = Agent(tmp_path / "target")
    agent.call("stop", {"settings": settings()})
    yield agent
    agent.close()
    for pid in running(tmp_path / "target"):
        with suppress(ProcessLookupError):  # it ended since it was looked at
            os.kill(pid, signal.SIGKILL)


def running(root: Path) -> list[int]:
    """Pids of the engines that run out of a target."""
    start = f"{root}/"
    return [pid for pid, words in processes.session_leaders() if any(word.startswith(start) for word in words)]
