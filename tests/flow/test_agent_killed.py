"""kill -9 at every line of the journal of a promotion and of a rollback: something always serves, and the next command
undoes or finishes it.

One target is killed again and again, as a machine would be; the engines are scripted servers, the kills are real.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.agent import Agent
from slipway.agent.journal import BEGINS, DONE, STEPS, Journal
from slipway.deployment.ssh.agent_session import open_session
from slipway.deployment.target_file import target_file
from slipway.store.artifacts import Engine
from slipway.store.store import Store
from tests.support import agent as support

# the first line, then two lines a step; nothing is staged for a rollback, and only a swap in one memory is held
PROMOTION = 1 + 2 * (len(STEPS) - 1)
ROLLBACK = 1 + 2 * (len(STEPS) - 2)
RECORDED = 1 + 2 * [step for step in STEPS if step != "held"].index("recorded") + 2  # recorded, not yet written down


class Site:
    """A target, its store, and how many versions it was given."""

    def __init__(self, folder: Path) -> None:
        self.agent = Agent(folder / "target")
        self._store = Store(folder / "store")
        self._version = 0
        self.agent.call("stop", {"settings": support.settings(keep_releases=2)})

    def promote(self, agent: Agent) -> None:
        """A promotion of an engine that was never there before."""
        support.promote(agent, support.engine(self._store, self._version))

    def next_engine(self) -> Engine:
        """An engine that was never there before."""
        self._version += 1
        return support.engine(self._store, self._version)

    def next_version(self) -> None:
        """What `promote` brings from now on."""
        self._version += 1

    def state(self) -> dict[str, Any]:
        """What the agent says, without a lock."""
        return self.agent.call("status", {})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    for _ in range(2):
        site.next_version()
        site.promote(site.agent)
    yield site
    site.agent.call("stop", {})


def test_a_promotion_killed_at_every_line_of_its_journal(site: Site) -> None:
    undone = finished = 0
    for line in range(1, PROMOTION + 1):
        site.next_version()
        before = site.state()["current"]["name"]
        steps = kill_at(line, lambda: site.promote(Agent(site.agent.paths.root)))
        after = recovered(site, line)
        assert (after != before) is (line >= RECORDED), (line, steps)
        undone, finished = undone + (after == before), finished + (after != before)
    assert (undone, finished) == (18, 5)


def test_a_rollback_killed_at_every_line_of_its_journal(site: Site) -> None:
    undone = finished = 0
    for line in range(1, ROLLBACK + 1):
        if site.state()["previous"] is None:
            site.next_version()
            site.promote(site.agent)
        before, previous = site.state()["current"]["name"], site.state()["previous"]
        kill_at(line, lambda: support.rollback(Agent(site.agent.paths.root)))
        after = recovered(site, line)
        assert after in (before, previous)
        undone, finished = undone + (after == before), finished + (after == previous)
    assert (undone, finished) == (16, 5)


def test_a_swap_in_one_memory_killed_while_nothing_serves_brings_the_champion_back(site: Site) -> None:
    """Lines of `held` and `started`: the old engine ends before the new one starts."""
    settings = support.settings(way="held")
    for line in range(6, 10):
        site.next_version()
        before = site.state()["current"]["name"]
        site.agent.call("start_current", {"settings": settings})
        steps = kill_at(line, lambda: site.promote(Agent(site.agent.paths.root)))
        assert steps[-2] in ("held", "started"), (line, steps)
        site.agent.call("start_current", {})
        state = site.state()
        assert (state["current"]["name"], state["healthy"], state["lost"]) == (before, True, [])


def recovered(site: Site, line: int) -> str:
    """After a kill: the pointer's engine serves at once, and after the next command nothing else does. Its release."""
    killed = site.state()
    assert killed["healthy"], (line, killed)
    site.agent.call("start_current", {})
    state = site.state()
    assert state["healthy"], (line, state)
    assert (state["interrupted"], state["lost"], state["lock"]) == (None, [], None), line
    assert not [path for path in site.agent.paths.releases.iterdir() if path.name.startswith(".")], line
    name: str = state["current"]["name"]
    return name


def kill_at(line: int, action: Callable[[], object]) -> list[str]:
    """Run `action` in a process that ends by SIGKILL at this line of the journal: with the beginning of a step on the
    disk and nothing of it done, or with the step done and that not on the disk. The steps that were begun, then `end`.
    Fails when the action ends before."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            _die_after(line, writer)
            action()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        steps = file.read().split()
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL, (line, steps)
    return [*steps, "end"]


def _die_after(line: int, writer: int) -> None:
    real, written = Journal._append, [0]

    def append(self: Journal, row: dict[str, Any]) -> None:
        written[0] += 1
        if written[0] == line and row.get("state") == DONE:  # done, and not yet written down
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, row)
        if row.get("state") == BEGINS:
            os.write(writer, f"{row['step']}\n".encode())
        if written[0] == line:  # written down, and not yet done
            os.kill(os.getpid(), signal.SIGKILL)

    Journal._append = append  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("end", ["the link ends", "the agent is killed"])
def test_the_one_file_of_a_target_undoes_what_its_session_left(site: Site, tmp_path: Path, end: str) -> None:
    """`slipway-target session` as sshd starts it: a real process of the zip, Python without packages."""
    file = tmp_path / "slipway-target"
    file.write_bytes(target_file())
    command = [sys.executable, "-I", "-S", str(file), "--root", str(site.agent.paths.root), "session"]
    before = site.state()["current"]["name"]
    made = site.next_engine()
    with open_session(command, "the lab") as session:
        session.call("begin", {"action": "promote", "engine": made.digest, "owner": "ann@laptop"})
        session.call("stage", support.stage_document(made))
        endpoint = session.call("start", {})
        assert site.state()["lock"]["owner"] == "ann@laptop"
        if end == "the agent is killed":
            os.kill(session.agent["pid"], signal.SIGKILL)
        else:
            session.call("switch", {"smoke": []})
            assert site.state()["current"]["name"] != before
    with open_session(command, "the lab") as session:
        assert session.call("start_current", {})["release"]["name"] == before
    state = site.state()
    assert (state["current"]["name"], state["healthy"], state["lost"]) == (before, True, [])
    assert state["endpoint"]["pid"] != endpoint["pid"]
    assert len(state["releases"]) == 2
