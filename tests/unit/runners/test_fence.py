"""One writer per checkpoint directory: real processes that are stopped, killed, cut off and woken again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from slipway.runners import fence
from slipway.runners.fence import FENCED, epochs, marked, owner, rotate, take

LEASE = 1.2
WRITER = """
import json, os, sys, time
from pathlib import Path
out, token = Path(sys.argv[1]), sys.argv[2]
while True:
    with out.open("a") as f: f.write(json.dumps({"token": token, "pid": os.getpid(), "time": time.time()}) + chr(10))
    time.sleep(0.02)
"""


class Attempts:
    """Attempts on one directory, each a real holder with a real writer; every process is dead when the test ends."""

    def __init__(self, root: Path) -> None:
        self.fence, self.checkpoints, self.started = root / "fence", root / "ckpt", list[subprocess.Popen[bytes]]()

    def take(self, token: str, lease: float = LEASE) -> int:
        return take(self.fence, token, self.checkpoints, 1, lease)

    def hold(self, epoch: int, *command: str, lease: float = LEASE, node: int = 0) -> subprocess.Popen[bytes]:
        argv = [
            sys.executable,
            fence.__file__,
            "hold",
            str(self.fence),
            str(epoch),
            str(node),
            str(lease),
            "--",
            *command,
        ]
        self.started.append(subprocess.Popen(argv, stderr=subprocess.PIPE))
        return self.started[-1]

    def write(self, token: str, out: Path | None = None, lease: float = LEASE) -> subprocess.Popen[bytes]:
        """Take the directory, then append stamps to `out` (default: the log in it) until killed."""
        epoch = self.take(token, lease)
        return self.hold(
            epoch, sys.executable, "-c", WRITER, str(out or self.checkpoints / "training.jsonl"), token, lease=lease
        )

    def stamps(self) -> list[dict[str, object]]:
        file = self.checkpoints / "training.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Attempts]:
    made = Attempts(tmp_path)
    yield made
    marks = [f"{fence._identity(made.fence)}:{n}" for n in epochs(made.fence)]
    for process in made.started:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
    for pid in [pid for mark in marks for pid in marked(mark)]:
        os.kill(pid, signal.SIGKILL)


def wait(until: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def command_line(pid: int) -> bytes:
    """Of a process; empty when it ended meanwhile."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def in_order(stamps: list[dict[str, object]]) -> bool:
    """No write of one token after the first write of the next."""
    tokens = [s["token"] for s in stamps]
    return tokens == sorted(tokens)


def test_the_command_s_exit_code_and_signal_come_back(attempts: Attempts) -> None:
    for token, code, command in [("a", 7, "import sys; sys.exit(7)"), ("b", 137, "import os; os.kill(os.getpid(), 9)")]:
        assert attempts.hold(attempts.take(token), sys.executable, "-c", command).wait(120) == code
    missing = attempts.hold(attempts.take("c"), "no-such-command-here")
    assert missing.wait(120) == 127
    assert missing.stderr is not None
    assert b"no-such-command-here cannot be started" in missing.stderr.read()
    assert owner(attempts.fence)["token"] == "c"


def test_an_attempt_that_ended_is_followed_at_once_and_nothing_is_moved(attempts: Attempts) -> None:
    assert attempts.hold(attempts.take("1"), "true").wait(120) == 0
    inode = attempts.checkpoints.stat().st_ino
    assert attempts.take("2", lease=1e6) == 2  # one that waited for the lease would not come back
    assert attempts.checkpoints.stat().st_ino == inode


def test_a_living_writer_is_killed_before_the_next_goes_on(attempts: Attempts) -> None:
    first = attempts.write("1")
    wait(attempts.stamps)
    second = attempts.write("2", lease=LEASE)  # `take` returns only when the first is gone
    assert first.wait(120) == FENCED
    wait(lambda: attempts.stamps()[-1]["token"] == "2")
    assert in_order(attempts.stamps())
    assert second.poll() is None
    assert not (attempts.checkpoints.parent / "fenced").exists()  # it ended in order: no copy was needed


def test_a_stopped_holder_cannot_shield_its_writer(attempts: Attempts) -> None:
    """The holder is stopped (SIGSTOP), its writer goes on: the guard beside it kills the writer within the lease."""
    first = attempts.write("1")
    wait(attempts.stamps)
    os.kill(first.pid, signal.SIGSTOP)
    attempts.write("2")
    wait(lambda: attempts.stamps()[-1]["token"] == "2")
    assert in_order(attempts.stamps())
    assert first.wait(120) == -signal.SIGKILL


def test_a_killed_holder_takes_its_whole_tree_along(attempts: Attempts) -> None:
    """SIGKILL of the holder: a launcher's workers in sessions of their own would live on."""
    nested = (
        "import subprocess, sys, time; "
        f"subprocess.Popen([sys.executable, '-c', {WRITER!r}, *sys.argv[1:]], start_new_session=True); time.sleep(60)"
    )
    first = attempts.hold(
        attempts.take("1"), sys.executable, "-c", nested, str(attempts.checkpoints / "training.jsonl"), "1"
    )
    wait(attempts.stamps)
    mark = f"{fence._identity(attempts.fence)}:1"
    assert len(marked(mark)) == 2
    first.kill()
    wait(lambda: not marked(mark))


def test_a_writer_that_stood_still_writes_into_a_directory_nobody_reads(attempts: Attempts) -> None:
    """The hard case: holder, guard and writer stop together (a suspended node), and wake after the next attempt began.

    Its log is open, and by path it would find the new one; what it has mounted (here: its descriptor) is the old
    directory.
    """
    mounted = (
        "import json, os, sys, time\n"
        "at = os.open(sys.argv[1], os.O_RDONLY)\n"
        "while True:\n"
        "    fd = os.open('training.jsonl', os.O_WRONLY | os.O_APPEND | os.O_CREAT, dir_fd=at)\n"
        "    os.write(fd, (json.dumps({'token': '1', 'time': time.time()}) + chr(10)).encode()); os.close(fd); "
        "time.sleep(0.02)\n"
    )
    first = attempts.hold(attempts.take("1"), sys.executable, "-c", mounted, str(attempts.checkpoints))
    wait(attempts.stamps)
    mark = f"{fence._identity(attempts.fence)}:1"
    writer = marked(mark)[0]
    frozen = [first.pid, writer, *[p for p in fence.descendants(first.pid) if p != writer]]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    here = os.uname().nodename
    moved = attempts.checkpoints.parent / "fenced" / "1-by-2"
    argv = (
        "from slipway.runners import fence; fence.marked = lambda mark: []; import sys; fence.main(sys.argv[1:]) "
        f" # not on {here}: no kill"
    )
    subprocess.run(
        [sys.executable, "-c", argv, "take", str(attempts.fence), "2", str(attempts.checkpoints), "1", str(LEASE)],
        check=True,
        timeout=120,
    )
    before = len((moved / "training.jsonl").read_text().splitlines())
    attempts.hold(2, sys.executable, "-c", WRITER, str(attempts.checkpoints / "training.jsonl"), "2")
    wait(lambda: attempts.stamps()[-1]["token"] == "2")
    os.kill(writer, signal.SIGCONT)  # alone: the holder beside it would kill it at once
    wait(lambda: len((moved / "training.jsonl").read_text().splitlines()) > before)  # it does write, where nobody reads
    for pid in reversed(frozen):
        os.kill(pid, signal.SIGCONT)
    first.wait(120)
    wait(lambda: not marked(mark))
    count = len(attempts.stamps())
    wait(lambda: len(attempts.stamps()) > count + 5)
    assert in_order(attempts.stamps())


def test_an_old_attempt_that_comes_late_does_not_start(attempts: Attempts) -> None:
    late, _newest = attempts.take("1"), attempts.take("2", lease=0.3)
    ran = attempts.checkpoints / "ran"
    assert attempts.hold(late, "touch", str(ran)).wait(120) == FENCED
    assert not ran.exists()


def test_a_holder_that_cannot_write_its_lease_kills(attempts: Attempts) -> None:
    """The fence directory is gone for it, as a lost mount is; nobody else took over."""
    first = attempts.write("1", out=attempts.checkpoints.parent / "elsewhere")
    wait((attempts.checkpoints.parent / "elsewhere").exists)
    attempts.fence.rename(attempts.fence.with_name("lost"))
    try:
        wait(lambda: not [p for p in fence.descendants(first.pid) if b"elsewhere" in command_line(p)])
    finally:
        attempts.fence.with_name("lost").rename(attempts.fence)


def test_two_attempts_at_once_get_two_epochs(attempts: Attempts) -> None:
    argv = [sys.executable, fence.__file__, "take", str(attempts.fence), "x", str(attempts.checkpoints), "1", "0.3"]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    answers = [p.communicate(timeout=120)[0].strip() for p in both]
    assert epochs(attempts.fence) == [1, 2]
    assert answers[0] != answers[1]
    assert "2" in answers  # the newest always gets through; the older may be told that it is too late


def test_stop_reaches_the_ranked_workers_not_their_launcher(attempts: Attempts, tmp_path: Path) -> None:
    """torchrun told to stop would kill its workers after a grace of its own."""
    worker = (
        "import os, signal, sys, time\nfrom pathlib import Path\n"
        "def stop(*_):\n    Path(sys.argv[1], 'saved-' + os.environ['LOCAL_RANK']).touch(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop); Path(sys.argv[1], 'up-' + os.environ['LOCAL_RANK']).touch()\nwhile "
        "True: time.sleep(0.05)"
    )
    launcher = (
        "import os, subprocess, sys\n"
        f"ps = [subprocess.Popen([sys.executable, '-c', {worker!r}, sys.argv[1]],"
        " env={**os.environ, 'LOCAL_RANK': str(i), 'TORCHELASTIC_RUN_ID': 'x'}, start_new_session=True) for i in "
        "range(2)]\n"
        "sys.exit(max(p.wait() for p in ps))"
    )
    holder = attempts.hold(attempts.take("1"), sys.executable, "-c", launcher, str(tmp_path))
    wait(lambda: (tmp_path / "up-0").exists() and (tmp_path / "up-1").exists())
    (attempts.fence / "stop-1").touch()
    assert holder.wait(120) == 0  # the launcher was not signalled: SIGTERM would have made it 143
    assert {p.name for p in tmp_path.glob("saved-*")} == {"saved-0", "saved-1"}


def test_sigterm_to_the_holder_is_passed_on(attempts: Attempts) -> None:
    holder = attempts.hold(attempts.take("1"), "sleep", "60")
    wait(lambda: [p for p in fence.descendants(holder.pid) if b"sleep" in command_line(p)])
    holder.terminate()
    assert holder.wait(120) == 128 + signal.SIGTERM


def test_rotation_keeps_complete_files_by_link_and_logs_by_copy(tmp_path: Path) -> None:
    old = tmp_path / "ckpt"
    (old / "epoch_0_step_4" / "model").mkdir(parents=True)
    (old / "epoch_0_step_4" / "model" / "adapter_model.safetensors").write_bytes(b"weights")
    (old / "LATEST").symlink_to("epoch_0_step_4")
    (old / "training.jsonl").write_text('{"step": 0}\n{"step": 1}\n{"st')
    rotate(old, "1-by-2", lambda: None)
    moved = tmp_path / "fenced" / "1-by-2"
    assert (old / "LATEST" / "model" / "adapter_model.safetensors").samefile(
        moved / "epoch_0_step_4" / "model" / "adapter_model.safetensors"
    )
    assert (old / "training.jsonl").read_text() == '{"step": 0}\n{"step": 1}\n'
    with (moved / "training.jsonl").open("a") as late:
        late.write("late\n")
    assert "late" not in (old / "training.jsonl").read_text()


@pytest.mark.parametrize("moved", [False, True], ids=["before the move", "after the move"])
def test_a_rotation_that_died_is_finished_or_undone(tmp_path: Path, moved: bool) -> None:
    checkpoints, fresh = tmp_path / "ckpt", tmp_path / "ckpt.fresh-1-by-2"
    fresh.mkdir()
    (fresh / "from").write_text("copy")
    if not moved:
        checkpoints.mkdir()
        (checkpoints / "from").write_text("original")
    take(tmp_path / "fence", "3", checkpoints, 1, LEASE)
    assert (checkpoints / "from").read_text() == ("copy" if moved else "original")
    assert not fresh.exists()


def test_a_lease_counts_as_kept_for_two_thirds_of_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the holder's own clock, which no load on the machine moves: the last third is for the kill, before a taker
    goes on."""
    take(tmp_path / "fence", "1", tmp_path / "checkpoints", 1, LEASE)
    now = [100.0]
    monkeypatch.setattr(fence, "clock", lambda: now[0])
    holder = fence.Holder(tmp_path / "fence", 1, 0, lease_s=1.2)
    now[0] = 100.79
    assert holder._keeps()
    now[0] = 100.81
    assert not holder._keeps()
    holder._beat(1)
    assert holder._keeps(), "a beat that was written begins the lease anew"
