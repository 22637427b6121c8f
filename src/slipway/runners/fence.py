"""One writer per checkpoint directory, whatever the scheduler does.

One file because it is copied beside the job and runs on nodes and in images that have nothing else of this package;
standard library only for the same reason.

A scheduler may start an attempt of a job while the one before still lives: its node was only cut off, or its node
daemon died and the processes did not. Each attempt therefore *takes* the directory before it starts, and *holds* it
while it runs.

    epoch N          a file, made by link(2): exactly one attempt gets N, and N only grows. The highest epoch owns the
                     directory.
    beat N.k         written by the holder on node k every `lease / 12`; it looks for a higher epoch every second.
    end N.k          written by the holder when nothing of its attempt is left alive.

    take N+1         1. make epoch N+1
                     2. wait until every holder of N ended, or none of N's beats changed for `lease`
                     3. kill what is left of N on this host
                     4. when N did not end: rotate the directory
    hold N           beat; refuse when a higher epoch exists; else start the command. SIGKILL its whole tree when a
                     higher epoch appears, or when `2/3 lease` have passed since the last beat that succeeded began.

Why that is safe. Clocks are never compared: the taker times by its own clock how long N's beats stood still, and the
holder by its own how long it could not write. A holder that runs kills at 2/3 lease at the latest, before the taker
goes on. A guard process beside it does so when the holder itself is stopped, killed or hangs. What no watchdog can
prevent is a whole node that stands still (suspended, stalled I/O) past the lease and then goes on: its processes may
write once more before they are killed. For that, *rotate*: the directory is moved to `fenced/`, and a copy (hard links
of files that are complete, real copies of the logs) takes its name. A container has the old directory mounted, by
inode, so a late write lands in `fenced/`, which nobody reads. A process without a container opens paths, so one late
write within a second after a stall cannot be excluded: on shared storage only the storage itself could refuse it.

A stop (`stop N`, or SIGTERM here, which leaves `told N`) is passed to the workers, not to a launcher like torchrun,
which kills after a grace of its own.

    fence.py take DIR TOKEN CHECKPOINTS NODES LEASE      prints the epoch
    fence.py hold DIR EPOCH NODE LEASE -- COMMAND...     exit code of the command; 128 + n for signal n; 75 when fenced
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

FENCED = 75  # EX_TEMPFAIL of sysexits.h
MARK = "SLIPWAY_FENCE"
TICK_S = 0.2
LOOK_S = 1.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def clock() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def take(fence: Path, token: str, checkpoints: Path, nodes: int, lease_s: float) -> int:
    """Own `checkpoints` as the newest epoch; returns when no older attempt can write there. `token` says who, for a
    person.
    """
    fence.mkdir(parents=True, exist_ok=True)
    epoch = _next_epoch(fence, {"token": token, "nodes": nodes, "host": os.uname().nodename})
    for older in [n for n in epochs(fence) if n < epoch and not (fence / f"settled-{n}").exists()]:
        ended = _wait_for_end(fence, older, lease_s, fence / f"beat-{epoch}.take")
        _kill(partial(marked, f"{_identity(fence)}:{older}"))
        _still_newest(fence, epoch)
        if not ended:
            rotate(checkpoints, f"{older}-by-{epoch}", lambda: _still_newest(fence, epoch))
        (fence / f"settled-{older}").touch()
    _mend(checkpoints)
    checkpoints.mkdir(parents=True, exist_ok=True)
    return epoch


def _still_newest(fence: Path, epoch: int) -> None:
    if (newest := max(epochs(fence))) > epoch:
        raise SystemExit(f"fence: epoch {newest} owns the checkpoints, this is epoch {epoch}: not started")


def epochs(fence: Path) -> list[int]:
    """Every epoch that was taken, ascending."""
    return sorted(int(p.name[6:]) for p in fence.iterdir() if p.name.startswith("epoch-"))


def owner(fence: Path) -> dict[str, object]:
    """What the newest epoch said of itself; empty when nobody took the directory yet."""
    taken = epochs(fence) if fence.exists() else []
    return dict(json.loads((fence / f"epoch-{taken[-1]}").read_text(encoding="utf-8"))) if taken else {}


def _next_epoch(fence: Path, doc: dict[str, object]) -> int:
    draft = fence / f".draft-{os.uname().nodename}-{os.getpid()}"
    try:
        while True:
            epoch = max(epochs(fence), default=0) + 1
            draft.write_text(json.dumps({**doc, "epoch": epoch}), encoding="utf-8")
            with suppress(FileExistsError):
                os.link(draft, fence / f"epoch-{epoch}")  # atomic on NFS and Lustre too; the loser tries the next
                return epoch
    finally:
        draft.unlink(missing_ok=True)


def _wait_for_end(fence: Path, epoch: int, lease_s: float, ours: Path) -> bool:
    """True when every holder of `epoch` said it ended; False when they stood still for `lease_s` by our clock. Beats in
    `ours`.
    """
    nodes = int(json.loads((fence / f"epoch-{epoch}").read_text(encoding="utf-8"))["nodes"])
    last_beats, since = _beats(fence, epoch), clock()
    while not all((fence / f"end-{epoch}.{k}").exists() for k in range(nodes)):
        if (now := _beats(fence, epoch)) != last_beats:
            last_beats, since = now, clock()
        if clock() - since > lease_s:
            return False
        ours.write_text(str(clock()), encoding="utf-8")
        time.sleep(min(LOOK_S, lease_s / 20))
    return True


def _beats(fence: Path, epoch: int) -> dict[str, str]:
    beats = {}
    for beat in sorted(fence.glob(f"beat-{epoch}.*")):
        try:
            beats[beat.name] = beat.read_text(
                encoding="utf-8"
            )  # its contents, not its time: opening a file is fresh on NFS
        except OSError:
            beats[beat.name] = str(clock())  # one that cannot be read counts as one that changed
    return beats


def rotate(checkpoints: Path, name: str, check: Callable[[], None]) -> None:
    """Move `checkpoints` to `fenced/name`, with a copy in its place that a late writer of the old one cannot reach.

    Files inside checkpoints are hard-linked (a complete one is never opened again; an incomplete one carries its marker
    along), files beside them (logs, appended to for ever) are copied, up to their last whole line. `check` raises when
    it is not ours to do.
    """
    _mend(checkpoints)
    fresh, aside = checkpoints.with_name(f"{checkpoints.name}.fresh-{name}"), checkpoints.parent / "fenced" / name
    aside.parent.mkdir(exist_ok=True)
    fresh.mkdir()
    if checkpoints.exists():
        _copy(checkpoints, fresh)
        check()
        checkpoints.rename(aside)
    fresh.rename(checkpoints)


def _mend(checkpoints: Path) -> None:
    """Finish, or clear away, a rotation that died on the way."""
    for fresh in sorted(
        checkpoints.parent.glob(f"{checkpoints.name}.fresh-*"), key=lambda p: p.stat().st_mtime, reverse=True
    ):
        if checkpoints.exists():
            shutil.rmtree(fresh)  # moved nothing yet: the original is still in its place
        else:
            fresh.rename(checkpoints)


def _copy(old: Path, new: Path, top: bool = True) -> None:
    for entry in os.scandir(old):
        target = new / entry.name
        with suppress(FileNotFoundError):  # the old writer may prune at this moment
            if entry.is_symlink():
                target.symlink_to(Path(entry.path).readlink())
            elif entry.is_dir():
                target.mkdir()
                _copy(Path(entry.path), target, top=False)
            elif top:
                data = Path(entry.path).read_bytes()
                target.write_bytes(data[: data.rfind(b"\n") + 1] if entry.name.endswith(".jsonl") else data)
            else:
                os.link(entry.path, target)


class Holder:
    """Runs one command as epoch `epoch` on node `node`, and lets nothing of it outlive the lease."""

    def __init__(self, fence: Path, epoch: int, node: int, lease_s: float) -> None:
        self._fence, self._epoch, self._node, self._lease_s = fence, epoch, node, lease_s
        # Written by the beating thread: when the last good beat began, the highest epoch, whether a stop was asked for.
        self._good, self._newest, self._stop = clock(), epoch, False
        self._termed = False
        self._to_guard = self._guard = -1

    def run(self, command: list[str]) -> int:
        """Exit code of `command`; FENCED when a newer attempt owns the directory or the lease could not be kept."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what a launcher leaves behind comes to us
        signal.signal(signal.SIGTERM, self._on_term)
        self._beat(0)
        if not self._keeps():
            return self._say(f"epoch {self._newest} owns the checkpoints, this is epoch {self._epoch}: not started")
        self._start_guard()
        mark = self._mark()
        try:
            child = subprocess.Popen(
                command, env={**os.environ, MARK: mark}, start_new_session=True, preexec_fn=die_with_parent
            )
        except OSError as err:
            code = self._say(f"{command[0]} cannot be started: {err.strerror}", 127)
        else:
            threading.Thread(target=self._beating, daemon=True).start()
            code = self._watch(child)
        kill_tree(os.getpid(), mark, spare={os.getpid(), self._guard})
        if self._termed:
            (self._fence / f"told-{self._epoch}").touch()
        (self._fence / f"end-{self._epoch}.{self._node}").touch()
        _send(self._guard, signal.SIGKILL)
        return code

    def _watch(self, child: subprocess.Popen[bytes]) -> int:
        signalled = False
        while (code := child.poll()) is None:
            if not self._keeps():
                kill_tree(os.getpid(), self._mark(), spare={os.getpid(), self._guard})
                return self._say(f"epoch {self._epoch} lost the checkpoints (newest {self._newest}): killed")
            if self._stop and not signalled:
                signalled = True
                for pid in workers(child.pid):
                    _send(pid, signal.SIGTERM)
            time.sleep(TICK_S)
        return code if code >= 0 else 128 - code

    def _mark(self) -> str:
        """This node's own: a node that is done must not kill another of the same attempt, where both are one host."""
        return f"{_identity(self._fence)}:{self._epoch}.{self._node}"

    def _keeps(self) -> bool:
        return self._newest <= self._epoch and clock() - self._good < self._lease_s * 2 / 3

    def _beating(self) -> None:
        """Everything that touches the file system, in a thread: the watch goes on while a read or write hangs."""
        count, next_beat = 0, clock() + self._lease_s / 12
        while self._newest <= self._epoch:
            with suppress(OSError):
                self._newest = max(epochs(self._fence), default=0)
                self._stop = self._stop or self._termed or (self._fence / f"stop-{self._epoch}").exists()
                if clock() >= next_beat:
                    count, next_beat = count + 1, clock() + self._lease_s / 12
                    self._beat(count)
            time.sleep(min(LOOK_S, self._lease_s / 12))

    def _beat(self, count: int) -> None:
        began = clock()
        beat = self._fence / f"beat-{self._epoch}.{self._node}"
        draft = beat.with_name(f".{beat.name}")
        draft.write_text(f"{os.uname().nodename} {os.getpid()} {count}", encoding="utf-8")
        draft.replace(beat)
        self._newest = max(epochs(self._fence), default=0)
        self._good = began
        if self._to_guard >= 0:
            os.write(self._to_guard, b".")

    def _start_guard(self) -> None:
        """A process that kills the tree, and us, when no beat succeeded for the time we should have killed it
        ourselves.
        """
        read_end, self._to_guard = os.pipe()
        holder, mark = os.getpid(), self._mark()
        self._guard = os.fork()
        if self._guard == 0:
            os.close(self._to_guard)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while select.select([read_end], [], [], self._lease_s * 2 / 3)[0] and os.read(read_end, 4096):
                pass
            kill_tree(holder, mark, spare={os.getpid(), holder})
            _send(holder, signal.SIGKILL)
            os._exit(0)
        os.close(read_end)

    def _on_term(self, _sig: int, _frame: FrameType | None) -> None:
        self._termed = True

    def _say(self, text: str, code: int = FENCED) -> int:
        sys.stderr.write(f"fence: {text}\n")
        return code


def workers(root: int) -> list[int]:
    """Who takes SIGTERM: the topmost processes under `root` that a launcher gave a rank, else `root` itself."""
    below = [p for p in descendants(root) if "TORCHELASTIC_RUN_ID" in _environ(p) and "LOCAL_RANK" in _environ(p)]
    top = [p for p in below if _parent(p) not in below]
    return top or [root]


def descendants(root: int) -> list[int]:
    """Living processes under `root`, without it."""
    parents = {pid: _parent(pid) for pid in _pids()}
    below, frontier = [], {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        below += sorted(frontier)
    return below


def marked(mark: str) -> list[int]:
    """Processes of this host that were started under `mark`: of one node, or of all nodes of an epoch."""
    return [pid for pid in _pids() if pid != os.getpid() and f"{_environ(pid).get(MARK)}.".startswith(f"{mark}.")]


def kill_tree(root: int, mark: str, spare: set[int]) -> None:
    """SIGKILL, until none is left, what descends from `root` or was started under `mark`."""
    _kill(lambda: [pid for pid in {*descendants(root), *marked(mark)} if pid not in spare])


def _kill(victims: Callable[[], list[int]]) -> None:
    while alive := victims():
        for pid in alive:
            _send(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def _send(pid: int, sig: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, sig)


def _pids() -> Iterator[int]:
    return (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit())


def _parent(pid: int) -> int:
    """0 for a process that is gone or a zombie."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if state in "ZX" else int(parent)


def _environ(pid: int) -> dict[str, str]:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    return dict(e.split("=", 1) for e in entries if "=" in e)


def _identity(fence: Path) -> str:
    """The directory's name for itself, the same inside and outside of containers."""
    return (
        str(json.loads((fence / "epoch-1").read_text(encoding="utf-8"))["token"])
        + f"@{(fence / 'epoch-1').stat().st_ino}"
    )


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent() -> None:
    """For a child between fork and exec: SIGKILL it when the thread that started it is gone."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(argv: list[str]) -> int:
    """`take` or `hold`, as the module's docstring says; the exit code."""
    if argv[0] == "take":
        fence, token, checkpoints, nodes, lease = argv[1:]
        sys.stdout.write(f"{take(Path(fence), token, Path(checkpoints), int(nodes), float(lease))}\n")
        return 0
    split = argv.index("--")
    fence, epoch, node, lease = argv[1:split]
    return Holder(Path(fence), int(epoch), int(node), float(lease)).run(argv[split + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
