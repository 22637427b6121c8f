"""What a training job runs first, where it runs: looks before the model loads, then starts the command and passes
SIGTERM on.

Copied beside the recipe and run by any python3 (>= 3.10): nothing but the standard library. `preflight.json` beside it:
`gpus` this node must show, `read` files that must be readable, `checkpoints` the folder to write to, `free_bytes`
there.

SIGTERM must reach the processes that train and save, not the launcher above them: torchrun would give its workers 30
seconds and kill them. The command is started with SIGTERM ignored, which torchrun keeps and NeMo's workers replace by
their own handler; so the whole process group may be signalled too. Whoever catches SIGTERM is told; if nobody does yet
(the model is still loading) there is nothing to save, and all are killed.
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
    command = argv[argv.index("--") + 1 :]
    wants = json.loads(Path(__file__).with_name("preflight.json").read_text())
    problem = (
        missing_program(command[0]) or gpus(wants["gpus"]) or unreadable(wants["read"]) or no_room(**wants["write"])
    )
    if problem:
        print(FAILED, json.dumps(problem), file=sys.stderr, flush=True)  # noqa: T201 (the job's output is the channel)
        return EXIT_CODE
    return run(command)


def missing_program(name: str) -> dict[str, str] | None:
    if shutil.which(name):
        return None
    return _problem(
        "training command",
        f"{name} is not installed",
        "NeMo AutoModel's",
        "use its image, or install nemo-automodel there",
    )


def gpus(wanted: int) -> dict[str, str] | None:
    """Asks the driver itself; importing torch for it would take ten seconds."""
    if not wanted:
        return None
    found = _visible_gpus()
    if found >= wanted:
        return None
    return _problem(
        "GPUs visible to the job",
        str(found),
        f"{wanted}, as the target says",
        "look at the container's GPU request and the driver there (`nvidia-smi`), or set target.gpus",
    )


def _visible_gpus() -> int:
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    return count.value if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def unreadable(files: list[str]) -> dict[str, str] | None:
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


def no_room(checkpoints: str, free_bytes: int) -> dict[str, str] | None:
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
    """Start the command, pass SIGTERM to whoever trains, return its exit code: 128 + signal when it was killed, 143
    when it was stopped before it could save anything."""
    unsaved: list[bool] = []
    with subprocess.Popen(command, env={**os.environ, **NOT_BY_TORCHRUN}, preexec_fn=_ignore_sigterm) as child:
        signal.signal(signal.SIGTERM, lambda *_: unsaved.append(not stop(child.pid)))
        code = child.wait()
    if any(unsaved):
        return 128 + signal.SIGTERM
    return code if code >= 0 else 128 - code


def _ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def stop(child: int) -> bool:
    """SIGTERM to the processes below `child`, itself included, that train; SIGKILL to all, and False, when none of
    them catches it yet."""
    family = [pid for pid in descendants(child) if alive(pid)]
    catching = [pid for pid in family if catches_sigterm(pid)]
    trainers = [pid for pid in catching if is_worker(pid)] or catching
    for pid in trainers or family:
        try:
            os.kill(pid, signal.SIGTERM if trainers else signal.SIGKILL)
        except ProcessLookupError:
            continue
    return bool(trainers) or not family


def descendants(root: int) -> list[int]:
    """`root` and all below it, parents first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it ended meanwhile
            continue
        children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    family = [root]
    for pid in family:
        family += children.get(pid, [])
    return family


def alive(pid: int) -> bool:
    """False for one that ended and waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_worker(pid: int) -> bool:
    """Whether torchrun started it: its launcher must not be told."""
    try:
        return b"LOCAL_RANK=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def catches_sigterm(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
