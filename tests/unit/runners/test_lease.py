"""The lease on a machine, between real processes: turns by priority, kill -9, a stage that outlives its orchestrator,
and training that makes room at its checkpoint."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import ResourceError
from slipway.runners import lease
from slipway.runners.base import Job, State, follow
from slipway.runners.lease import Priority, Wish, holder, leased, turns, waiting
from slipway.runners.local import LocalRunner
from slipway.runners.yielding import PreemptedError, YieldingRunner

WORKER = """
import sys, time
from pathlib import Path
from slipway.runners.lease import Priority, Wish, leased
folder, name, priority, log = sys.argv[1:]
with leased(Path(folder), Wish(name, Priority(int(priority)))):
    with open(log, "a") as file:
        file.write(name + "\\n")
    while not Path(log + "." + name).exists():
        time.sleep(0.02)
"""

TRAINS = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: (Path("saved").touch(), sys.exit()))
Path("ready").touch()
time.sleep(600)
"""


class Machine:
    """A lease folder, and processes that wish for it: each works until `finish`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder / "lease", folder / "log"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, priority: Priority) -> None:
        command = [sys.executable, "-c", WORKER, str(self.folder), name, str(int(priority)), str(self.log)]
        self.processes[name] = subprocess.Popen(command)

    def finish(self, name: str) -> None:
        Path(f"{self.log}.{name}").touch()
        assert self.processes[name].wait(timeout=60) == 0

    def worked(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def waits(self) -> list[str]:
        return [one.name for one in waiting(self.folder)]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for process in made.processes.values():
        process.kill()
        process.wait()


def until(ready: Callable[[], Any]) -> Any:
    """What `ready` gives, once it gives something."""
    deadline = time.monotonic() + 60
    while not (result := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return result


def ask(folder: Path, wish: Wish) -> str:
    """Who holds the lease while this wish has it, which it must get at once."""
    with leased(folder, wish, wait_s=0):
        return str(getattr(holder(folder), "name", ""))


def test_serving_goes_first_then_the_others_in_their_order_and_whoever_is_killed_holds_nothing(
    machine: Machine,
) -> None:
    machine.start("a", Priority.BUILD)
    until(lambda: machine.worked() == ["a"])
    for name, priority in (("tuning", Priority.TUNING), ("training", Priority.TRAINING), ("gone", Priority.SERVING)):
        machine.start(name, priority)
        until(lambda name=name: name in machine.waits())
    machine.start("serving", Priority.SERVING)
    until(lambda: len(machine.waits()) == 4)
    assert machine.waits() == ["gone", "serving", "training", "tuning"]
    held = holder(machine.folder)
    assert held and (held.name, held.pid) == ("a", machine.processes["a"].pid)
    assert turns(machine.folder).followed
    assert [one.pid for one in waiting(machine.folder)] == [machine.processes[name].pid for name in machine.waits()]
    with pytest.raises(ResourceError, match=rf"lease for b: held by a, pid {held.pid}, for \d+ s; expected"):
        ask(machine.folder, Wish("b", Priority.SERVING))
    for name in ("gone", "a"):  # one that waits, one that works
        machine.processes[name].send_signal(signal.SIGKILL)
        machine.processes[name].wait()
    until(lambda: machine.worked() == ["a", "serving"])
    machine.finish("serving")
    until(lambda: machine.worked() == ["a", "serving", "training"])
    machine.finish("training")
    until(lambda: machine.worked()[-1] == "tuning")
    machine.finish("tuning")
    assert holder(machine.folder) is None and machine.waits() == []


def test_a_stage_that_outlives_its_orchestrator_is_waited_for_but_not_by_the_run_that_takes_it_up(
    tmp_path: Path,
) -> None:
    work, folder = tmp_path / "train_cpu-1", tmp_path / "lease"
    work.mkdir()
    stage = Job(work.name, (sys.executable, "-c", "import time; time.sleep(600)", str(work / "stage.json")), work)
    runner = LocalRunner()
    runner.submit(stage)
    orchestrator = (
        "import os, sys, signal\nfrom pathlib import Path\nfrom slipway.runners.lease import *\n"
        "with leased(Path(sys.argv[1]), Wish('train', Priority.TRAINING, sys.argv[2])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", orchestrator, str(folder), str(work)], check=False)
    assert killed.returncode == -signal.SIGKILL
    held = holder(folder)
    assert held and held.name == "train"
    assert not turns(folder).followed, "its stage works on, and no run follows it"
    with pytest.raises(ResourceError, match="held by train"):
        ask(folder, Wish("serve", Priority.SERVING))
    assert ask(folder, Wish("train", Priority.TRAINING, str(work))) == "train"
    subprocess.run([sys.executable, "-c", orchestrator, str(folder), str(work)], check=False)
    runner.cancel(stage)
    assert ask(folder, Wish("serve", Priority.SERVING)) == "serve"
    assert holder(folder) is None


def test_training_makes_room_at_its_checkpoint_and_what_may_not_be_preempted_works_on(
    machine: Machine, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    saves = (
        "import signal, time, sys, pathlib\nsignal.signal(15, lambda *_: (pathlib.Path('saved').touch(), sys.exit()))\n"
    )
    job = Job("train", (sys.executable, "-c", f"{saves}pathlib.Path('ready').touch()\ntime.sleep(600)"), work)
    runner = LocalRunner()

    def look() -> None:
        if (work / "ready").exists() and not machine.processes:
            machine.start("serving", Priority.SERVING)

    with leased(machine.folder, Wish("train", Priority.TRAINING)) as held:
        with pytest.raises(PreemptedError, match="made room for serving"):
            follow(YieldingRunner(runner, held.wanted), job, look)
        assert (work / "saved").exists()
        ended = runner.poll(job)
        assert ended and ended.state is State.CANCELLED
        assert machine.worked() == [], "the room is made by leaving the block"
    until(lambda: machine.worked() == ["serving"])
    machine.start("other", Priority.EVALUATION)
    until(lambda: machine.waits() == ["other"])
    assert lease.Lease(machine.folder, Wish("quantize", Priority.SERVING)).wanted() == ""
    machine.finish("serving")
    machine.finish("other")


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"name": 1}', "\x00", json.dumps({"name": "x", "work": "/none"})])
def test_a_damaged_record_holds_nothing(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "holder.lock").write_text(damaged)
    with leased(tmp_path, Wish("a", Priority.BUILD), wait_s=0):
        assert ask(tmp_path, Wish("inner", Priority.SERVING)) == "a", "this process has it already"
        held = holder(tmp_path)
        assert held and held.pid == os.getpid()
    assert holder(tmp_path) is None


def test_what_others_put_into_the_folder_of_wishes_is_no_wish(tmp_path: Path) -> None:
    wishes = tmp_path / "waiting"
    wishes.mkdir()
    for name in ("2-notes.txt", "0-1-2-3", "9-x-y", "0-00000000000000000001-7"):
        (wishes / name).write_text("x")
    assert ask(tmp_path, Wish("a", Priority.TUNING)) == "a"
    assert sorted(path.name for path in wishes.iterdir()) == ["0-1-2-3", "2-notes.txt", "9-x-y"], "of a killed wish"


def test_every_user_who_may_write_the_folder_may_take_its_lease(tmp_path: Path) -> None:
    folder = tmp_path / "lease"
    folder.mkdir()
    folder.chmod(0o1777)
    before = os.umask(0o077)
    try:
        assert ask(folder, Wish("a", Priority.BUILD)) == "a"
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "holder.lock").stat().st_mode) == 0o666
    assert stat.S_IMODE((folder / "waiting").stat().st_mode) == 0o1777


def test_a_lease_that_cannot_be_read_is_a_problem_and_an_absent_one_is_free(tmp_path: Path) -> None:
    assert turns(tmp_path / "none") == lease.Turns(None, False, ())
    (tmp_path / "waiting").write_text("no folder")
    (tmp_path / "holder.lock").touch()
    assert "Not a directory" in turns(tmp_path).problem
