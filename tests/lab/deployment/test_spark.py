"""Promotion to a machine behind ssh: a real sshd, rsync and HAProxy; cables pulled, agents killed, a reboot.

Engines are scripted servers. All lines of the journal are killed by `make soak` (SLIPWAY_SOAK_KILLS=all); here three of
a promotion and one of a rollback.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.units import units
from slipway.config.deploy import DeployConfig
from slipway.deployment.promotion import promote, rollback, start
from slipway.deployment.releases import Release
from slipway.deployment.ssh import agent_session
from slipway.deployment.ssh.set_up import undo
from slipway.deployment.state import status, stop
from slipway.deployment.target import session
from slipway.errors import BundleError, ResourceError, SlipwayError
from slipway.store.store import Store
from tests.lab.ssh_lab import ROOT_THERE, Machine, SshLab
from tests.support import target as support
from tests.support.searched import searchable, searched_verdict

KILLED_AT = (2, 7, 16)  # staging has begun; the engine is started; the pointer has moved
JOURNAL_LINES = 23
ROLLBACK_KILLED_AT = (14,)  # the pointer is about to move
ROLLBACK_LINES = 21  # nothing is staged
# In every Python of the machine: the n-th line of a journal on the disk ends the agent by SIGKILL when /root/kill-at
# says n; silence is noticed twenty times as fast, so that a test of a pulled cable need not wait a minute.
SITE = """
import os, select
_fsync, _select, _lines = os.fsync, select.select, [0]
def fsync(fd):
    _fsync(fd)
    if os.readlink(f"/proc/self/fd/{fd if isinstance(fd, int) else fd.fileno()}").endswith("/journal.jsonl"):
        _lines[0] += 1
        try:
            with open("/root/kill-at") as file:
                line = int(file.read())
        except FileNotFoundError:
            return
        if _lines[0] == line:
            os.unlink("/root/kill-at")
            os.kill(os.getpid(), 9)
os.fsync = fsync
def select_soon(read, write, extra, timeout=None):
    return _select(read, write, extra, timeout / 20 if timeout and timeout > 50 else timeout)
select.select = select_soon
"""
ASK = """
import json, sys, urllib.request
body = json.dumps({"model": "slipway", "stream": True, "messages": [{"role": "user", "content": "u"}]}).encode()
request = urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=120).read().decode())
"""
# Asks until a file is there; how many answers were whole, and what was wrong with the others.
ASK_ON = """
import json, os, sys, urllib.request
body = json.dumps({"model": "slipway", "stream": True, "messages": [{"role": "user", "content": "u"}]}).encode()
counts = {"whole": 0, "failed": []}
while not os.path.exists(sys.argv[2]):
    try:
        request = urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"})
        answer = urllib.request.urlopen(request, timeout=120).read().decode()
        counts["whole"] += 1
        if not answer.rstrip().endswith("[DONE]"):
            counts["failed"].append(answer[-100:])
    except OSError as err:
        counts["failed"].append(str(err))
print(json.dumps(counts))
"""

SERVER = support.SERVER.replace(f"#!{sys.executable} ", "#!/usr/bin/python3 ")  # the machine's own Python


class Site:
    """A machine that is a target, the orchestrator's store, and versions to promote."""

    def __init__(self, lab: SshLab, machine: Machine, folder: Path) -> None:
        self.lab, self.machine, self.folder = lab, machine, folder
        machine.power_off()
        (machine.folder / "session.env").write_text("PYTHONPATH=/root/site\n")
        machine.start()
        (machine.home / "site").mkdir()
        (machine.home / "site/sitecustomize.py").write_text(SITE)
        self.ssh = lab.set_up(machine, units("lab"))
        self.params = DeployConfig(
            target="lab", kind="spark", ssh=self.ssh, ports=(8091, 8093), start_timeout_s=30, smoke_requests=2
        )
        self._store = Store(folder / "store")
        self._data = support.make_data(self._store)
        self.notes: list[str] = []

    @property
    def root(self) -> Path:
        """The target's folder, seen from here."""
        return self.machine.home / ROOT_THERE

    def promote(
        self,
        version: int,
        note: Callable[[str], None] = lambda _: None,
        wait_s: float = 30,
        documents: int = 0,
    ) -> Release:
        """Promote the engine that answers with its version; with an index over that many documents, where there are
        any."""
        engine = support.make_engine(self._store, {"answer": json.dumps({"version": version})}, SERVER)
        verdict = support.make_verdict(self._store, engine)
        if documents:
            verdict = searched_verdict(self._store, engine, searchable(self._store, documents))

        def noted(text: str) -> None:
            self.notes.append(text)
            note(text)

        return promote(engine, verdict, self._data, {}, self.params, model="home", note=noted, lock_timeout_s=wait_s)

    def answer(self) -> int:
        """The version that answers at the one address of clients."""
        url = f"http://127.0.0.1:{self.params.proxy.port}/v1/chat/completions"
        answer = self.machine.run("python3", "-S", "-c", ASK, url).stdout
        (version,) = re.findall(r'version\\": (\d+)', answer)
        return int(version)

    def served_index(self) -> str:
        """The digest of the index beside the engine that the pointer names."""
        return str(json.loads((self.root / "current/index/manifest.json").read_text())["digest"])

    def index(self, documents: int) -> str:
        """The digest of the store's index over that many documents."""
        return searchable(self._store, documents).digest

    @contextmanager
    def load(self) -> Iterator[dict[str, Any]]:
        """Requests to the one address of clients for the time of the block; afterwards what became of them."""
        url, counts = f"http://127.0.0.1:{self.params.proxy.port}/v1/chat/completions", dict[str, Any]()

        def ask_on() -> None:
            counts.update(json.loads(self.machine.run("python3", "-S", "-c", ASK_ON, url, "/root/ask-no-more").stdout))

        asking = threading.Thread(target=ask_on)
        asking.start()
        try:
            yield counts
        finally:
            (self.machine.home / "ask-no-more").touch()
            asking.join()

    def engines(self) -> list[str]:
        """Releases out of which engine processes run."""
        shown = self.machine.run("ps", "-eo", "args").stdout
        return re.findall(r"releases/(\d{4}-[0-9a-f]{8})/engine/server", shown)

    def settled(self) -> Any:
        """The target's state once nobody holds its lock: a link that was cut takes its agent some seconds."""
        deadline = time.monotonic() + 60
        while True:
            with session(self.params) as target:
                if target.call("holder", {})["lock"] is None:
                    return target.call("status", {})
            assert time.monotonic() < deadline, "the lock is still held"
            time.sleep(0.5)


@pytest.fixture
def site(ssh_lab: SshLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(agent_session, "ALIVE_S", 0.5)
    yield Site(ssh_lab, ssh_lab.machines[0], tmp_path)


def test_releases_come_and_go_back_and_a_reboot_brings_back_what_served(site: Site) -> None:
    first = site.promote(1)
    assert site.answer() == 1
    second = site.promote(2)
    assert (site.answer(), site.engines()) == (2, [second.name])
    assert any("blobs to send" in note for note in site.notes)
    back = rollback(site.params)
    assert (back.name, site.answer(), site.engines()) == (first.name, 1, [first.name])
    third = site.promote(3)
    assert (site.answer(), site.engines()) == (3, [third.name])
    now = status(site.params)
    assert (now.release and now.release.name, now.healthy) == (third.name, True)
    site.machine.reboot()
    assert site.engines() == []
    (unit,) = site.machine.units.iterdir()
    command = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)[0].split()
    watch = threading.Thread(target=lambda: site.machine.run("timeout", "40", *command, check=False))
    watch.start()
    deadline = time.monotonic() + 120
    while site.engines() != [third.name] or not status(site.params).healthy:
        assert time.monotonic() < deadline, "nothing came back after the reboot"
        time.sleep(0.5)
    assert site.answer() == 3
    stop(site.params)
    assert site.engines() == []
    watch.join()
    start(site.params)
    assert (site.answer(), site.engines()) == (3, [third.name])
    undo(site.ssh, print, identity=site.lab.key)
    assert (site.engines(), site.machine.pids("haproxy")) == ([], [])
    assert sorted(path.name for path in site.machine.home.iterdir()) == [".ssh", "site"]
    assert list(site.machine.units.iterdir()) == []


def test_an_index_comes_and_goes_back_with_its_engine_under_load(site: Site) -> None:
    first = site.promote(1, documents=2)
    assert site.served_index() == site.index(2)
    with site.load() as counts:
        second = site.promote(2, documents=4)
        assert (site.answer(), site.served_index()) == (2, site.index(4))
        assert second.checks["index"] == {"digest": site.index(4), "probes": 32, "retrievers": ["bm25"]}
        back = rollback(site.params)
        assert (back.name, site.answer(), site.served_index()) == (first.name, 1, site.index(2))
        assert "reads every byte" in back.checks["index"]["refused"]
        again = site.promote(1, documents=4)  # what serves, with another index
        assert (site.answer(), site.served_index()) == (1, site.index(4))
        assert again.digests["engine"] == first.digests["engine"]
    assert counts["failed"] == [] and counts["whole"] > 0
    flipped = site.root / "releases" / first.name / "index/chunks.jsonl"
    changed = flipped.read_bytes().replace(b"d0", b"d1", 1)
    flipped.unlink()  # a hard link to the layer's
    flipped.write_bytes(changed)
    with pytest.raises(BundleError, match=rf"{first.name}/index/.* other bytes"):
        rollback(site.params)
    assert (site.answer(), site.served_index()) == (1, site.index(4))


@pytest.mark.parametrize(("phase", "serves"), [("started", 1), ("switched", 1), ("recorded", 2)])
def test_a_cable_that_is_pulled_leaves_one_release_that_serves(site: Site, phase: str, serves: int) -> None:
    site.promote(1)

    def pull(text: str) -> None:
        if text.startswith(phase):
            site.machine.cut()

    with pytest.raises(SlipwayError):
        site.promote(2, pull)
    assert site.answer() in (1, 2), "clients of the machine itself are served all the while"
    site.machine.mend()
    state = site.settled()
    assert (site.answer(), len(site.engines())) == (serves, 1)
    assert state["current"]["name"] == site.engines()[0]
    site.promote(3)
    assert (site.answer(), len(site.engines())) == (3, 1)


def test_a_second_orchestrator_is_told_who_is_at_work(site: Site) -> None:
    with session(site.params) as first:
        first.call("begin", {"action": "promote", "engine": "0" * 64, "owner": "ann@laptop"})
        with pytest.raises(ResourceError, match=r"busy: promotion of 000000000000 by ann@laptop"):
            site.promote(1, wait_s=0.5)
    site.promote(1)
    assert site.answer() == 1


def test_an_agent_killed_in_a_promotion_is_resumed_or_undone_by_the_next_command(site: Site) -> None:
    lines = killed_lines(KILLED_AT, JOURNAL_LINES)
    serving, counts = 1, {"undone": 0, "finished": 0}
    site.promote(1)
    for version, line in enumerate(lines, 2):
        serving = killed_and_gone_on(site, lambda version=version: site.promote(version), line, (serving, version))
        counts["finished" if serving == version else "undone"] += 1
    assert counts["undone"] > 0
    sys.stdout.write(json.dumps({"killed": len(lines), **counts}) + "\n")


def test_an_agent_killed_in_a_rollback_is_resumed_or_undone_by_the_next_command(site: Site) -> None:
    lines = killed_lines(ROLLBACK_KILLED_AT, ROLLBACK_LINES)
    counts = {"undone": 0, "finished": 0}
    site.promote(1)
    previous, serving = 1, 2
    site.promote(2)
    for line in lines:
        now = killed_and_gone_on(site, lambda: rollback(site.params), line, (serving, previous))
        counts["finished" if now == previous else "undone"] += 1
        if now == previous:
            previous, serving = now, serving + 1
            site.promote(serving)
    assert counts["undone"] > 0
    sys.stdout.write(json.dumps({"rollbacks killed": len(lines), **counts}) + "\n")


def killed_lines(few: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Lines of the journal at which the agent is killed: a few, or in the soak every one."""
    return tuple(range(1, most + 1)) if os.environ.get("SLIPWAY_SOAK_KILLS") == "all" else few


def killed_and_gone_on(site: Site, act: Callable[[], object], line: int, versions: tuple[int, int]) -> int:
    """The version that serves after `act` was killed at this line of the journal and `slipway start` went on."""
    (site.machine.home / "kill-at").write_text(str(line))
    with pytest.raises(SlipwayError):
        act()
    assert not (site.machine.home / "kill-at").exists(), f"the journal had no line {line}"
    assert site.answer() in versions, "something serves right after the kill"
    start(site.params)
    now = site.answer()
    assert now in versions
    assert len(site.engines()) == 1, (line, site.engines())
    assert not (site.root / "journal.jsonl").exists()
    return now
