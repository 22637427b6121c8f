"""What a training job runs first, on the machine that trains: checks, then the command, to which it passes SIGTERM on.

Copied beside the recipe and run by any python3 (>= 3.10): nothing but the standard library. `preflight.json` beside it
holds `gpus`, the number this node must show; `read`, files that must be readable; and `write` with `checkpoints`, the
folder to write to, and `free_bytes` there.

SIGTERM must reach the processes that train and save, not the launcher above them: torchrun would give its workers 30
seconds and kill them. The command is started with SIGTERM ignored, which torchrun keeps and NeMo's workers replace by
their own handler; so the whole process group may be signalled too. Processes that catch SIGTERM receive it; when none
does yet (the model is still loading) there is nothing to save, and all are killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

FAILED = "slipway-preflight:"
EXIT_CODE = 78  # EX_CONFIG of sysexits.h
NOT_BY_TORCHRUN = {"TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGINT,SIGHUP,SIGQUIT"}


def main(argv: list[str]) -> int:
    """Run the checks, then the command after `--`. Returns its exit code, or EXIT_CODE with the problem as one line of
    JSON on stderr."""
    command = argv[argv.index("--") + 1 :]
    needs = json.loads(Path(__file__).with_name("preflight.json").read_text(encoding="utf-8"))
    problem = (
        check_program(command[0])
        or check_gpus(needs["gpus"])
        or check_readable(needs["read"])
        or check_space(**needs["write"])
    )
    if problem:
        print(FAILED, json.dumps(problem), file=sys.stderr, flush=True)  # noqa: T201 (the job's output is the channel)
        return EXIT_CODE
    return run(command)


def check_program(name: str) -> dict[str, str] | None:
    """The problem when `name` is no program on PATH, else None."""
    if shutil.which(name):
        return None
    return _problem(
        "training command",
        f"{name} is not installed",
        "NeMo AutoModel's",
        "use its image, or install nemo-automodel there",
    )


def check_gpus(wanted: int) -> dict[str, str] | None:
    """The problem when the CUDA driver shows fewer than `wanted` GPUs, else None."""
    if not wanted:
        return None
    visible = _visible_gpus()
    if visible >= wanted:
        return None
    return _problem(
        "GPUs visible to the job",
        str(visible),
        f"{wanted}, as the target says",
        "look at the container's GPU request and the driver there (`nvidia-smi`), or set target.gpus",
    )


def _visible_gpus() -> int:
    # The driver itself is asked: importing torch for it would take ten seconds
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    return count.value if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def check_readable(files: list[str]) -> dict[str, str] | None:
    """The problem with the first of `files` that cannot be read, else None."""
    for file in files:
        try:
            with open(file, "rb") as f:  # noqa: PTH123 (the bare call tells why it failed)
                f.read(1)
        except OSError as err:
            return _problem(
                f"file {file} in the job",
                err.strerror or str(err),
                "readable",
                "look at the job's mounts and permissions",
            )
    return None


def check_space(checkpoints: str, free_bytes: int) -> dict[str, str] | None:
    """The problem when the folder `checkpoints` cannot be written or has less than `free_bytes` free, else None."""
    name = f"checkpoint folder {checkpoints} in the job"
    try:
        with tempfile.TemporaryFile(dir=checkpoints):
            pass
    except OSError as err:
        return _problem(name, err.strerror or str(err), "writable", "look at the job's mounts and permissions")
    free = shutil.disk_usage(checkpoints).free
    if free >= free_bytes:
        return None
    return _problem(
        name,
        f"{free / 1e9:.1f} GB free",
        f"{free_bytes / 1e9:.1f} GB for checkpoints",
        "free space, or move store.root",
    )


def _problem(thing: str, value: str, expected: str, next_step: str) -> dict[str, str]:
    return {"type": "ResourceError", "thing": thing, "value": value, "expected": expected, "next_step": next_step}


def run(command: list[str]) -> int:
    """Start the command, pass SIGTERM to the processes that train, and return its exit code: 128 + signal when it was
    killed, 143 when it was stopped before it could save anything."""
    unsaved: list[bool] = []
    with subprocess.Popen(command, env={**os.environ, **NOT_BY_TORCHRUN}, preexec_fn=_ignore_sigterm) as child:
        signal.signal(signal.SIGTERM, lambda *_: unsaved.append(not stop(child.pid)))
        code = child.wait()
    if any(unsaved):
        return 128 + signal.SIGTERM
    return code if code >= 0 else 128 - code


def _ignore_sigterm() -> None:
    # An ignored signal stays ignored across exec, so torchrun and its workers inherit it until they set a handler
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def stop(child: int) -> bool:
    """Send SIGTERM to the processes that train: `child` or those below it that catch the signal, of these torchrun's
    workers where there are some. When none catches it, send SIGKILL to all of them.

    Returns False when they were killed, True otherwise.
    """
    processes = [pid for pid in descendants(child) if alive(pid)]
    catching = [pid for pid in processes if catches_sigterm(pid)]
    # torchrun's launcher catches SIGTERM too, and would answer it by killing its workers after 30 seconds
    trainers = [pid for pid in catching if is_worker(pid)] or catching
    for pid in trainers or processes:
        try:
            os.kill(pid, signal.SIGTERM if trainers else signal.SIGKILL)
        except ProcessLookupError:
            continue
    return bool(trainers) or not processes


def descendants(root: int) -> list[int]:
    """Process ids of `root` and all processes below it, parents before their children."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text(encoding="utf-8")
        except OSError:  # it ended meanwhile
            continue
        # `pid (name) state parent ...`: a name may hold spaces and parentheses, so fields are counted from the last one
        children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    processes = [root]
    for pid in processes:  # grows while it is read: a walk by breadth
        processes += children.get(pid, [])
    return processes


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie, that is, has not ended while its parent has yet to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_worker(pid: int) -> bool:
    """Whether torchrun started this process as a worker: only those have LOCAL_RANK in their environment."""
    try:
        return b"LOCAL_RANK=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def catches_sigterm(pid: int) -> bool:
    """Whether the process has a handler for SIGTERM; False for one that ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
