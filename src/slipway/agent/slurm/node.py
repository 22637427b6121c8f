"""What a service job runs on its node: it registers where it answers, runs one engine, and ends it when it is over.

One file because it is copied into the release's folder on the shared filesystem and runs where nothing else of this
package is; standard library only, for the same reason.

    FOLDER/job.json                  argv and environment with {host}, {port}, {threads}, {cache}; ports, stop_s; where
                                     the bundle lies that may bring caches, and the modules that fill a cache from
                                     it; key_variables: where the engine takes the key of those who ask it from
    FOLDER/registered/JOB.RESTART    {"job", "restart", "node", "host", "port", "key", "ca", "pid"}: where this attempt
                                     answers, whether it asks for its key, and what signed its certificate
    FOLDER/keys/JOB.RESTART          that key, mode 600, made by this attempt and removed as it ends or by a younger one
    FOLDER/over/JOB                  this job's time is over, whether Slurm can still reach its node or not

JOB.RESTART is the fencing token. An attempt whose node daemon died may live on while Slurm has requeued the job: the
reader takes the address of the attempt that the controller counts (`Restarts`), never another one, and an older attempt
ends its engine as soon as it sees a younger registration. The younger one waits a moment for that: both may be on one
node, and its GPU holds one engine. A registration is renamed into place whole, and removed by the attempt as it ends.

    slurm_node.py FOLDER      exit code of the engine; 75 when a younger attempt took over; 0 when its job was over
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

FENCED = 75  # EX_TEMPFAIL of sysexits.h
TICK_S = 0.2
OLDER_S = 10.0  # an older attempt that still runs ends within ticks; one whose node is gone never says so
REGISTERED, OVER, KEYS, JOB = "registered", "over", "keys", "job.json"
KEY_BYTES = 32


def main(folder: Path) -> int:
    """Register, serve, end; see the module's words for the exit code."""
    document = json.loads((folder / JOB).read_text(encoding="utf-8"))
    job, restart = int(os.environ["SLURM_JOB_ID"]), int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda received, _: signals.append(received))
    port = free_port(*document["ports"])
    key = make_key(folder / KEYS, job, restart) if document.get("key_variables") else ""
    register(folder / REGISTERED, job, restart, port, asks=bool(key), ca=document.get("ca", ""))
    try:
        await_older(folder, job, restart)
        return serve(folder, document, (job, restart, port), signals, key)
    finally:
        for name in (REGISTERED, KEYS):
            (folder / name / f"{job}.{restart}").unlink(missing_ok=True)


def serve(
    folder: Path, document: dict[str, Any], attempt: tuple[int, int, int], signals: list[int], key: str = ""
) -> int:
    """Run the engine until it ends or has to; the exit code of `main`. `attempt`: job, restart, port; `signals`: those
    that came, in order; `key`: what the engine asks its callers for, empty for none."""
    job, restart, port = attempt
    with tempfile.TemporaryDirectory(prefix="slipway-", ignore_cleanup_errors=True) as cache:  # on the node's own disk
        engine = start(document, port, cache, key)
        return watch(engine, folder, document["stop_s"], (job, restart), signals)


def watch(
    engine: subprocess.Popen[bytes], folder: Path, stop_s: float, attempt: tuple[int, int], signals: list[int]
) -> int:
    """See that the engine ends when it has to; the exit code of `main`."""
    job, restart = attempt
    while engine.poll() is None:
        if is_fenced(folder, job, restart):
            end(engine, 0.0)
            return FENCED
        if (folder / OVER / str(job)).exists() or signal.SIGTERM in signals:
            end(engine, stop_s)
            return 0
        if signal.SIGUSR1 in signals:  # the time limit is near and nobody started a successor
            end(engine, stop_s)
            requeue(job)
            return 0
        time.sleep(TICK_S)
    return engine.returncode if engine.returncode >= 0 else 128 - engine.returncode


def free_port(first: int, last: int) -> int:
    """A port of the range that nobody listens on, on any address. Raises SystemExit when all are taken."""
    for port in random.sample(range(first, last + 1), last - first + 1):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            return port
    raise SystemExit(f"no free port from {first} to {last} on {socket.gethostname()}")


def make_key(folder: Path, job: int, restart: int) -> str:
    """A new key, and its file in `folder`, whole or not at all; the files of this job's older attempts are removed:
    nobody is to ask those any more. The key is in no argument, no output and no record of Slurm."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key, draft = secrets.token_hex(KEY_BYTES), folder / f".{job}.{restart}.{os.getpid()}"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"{key}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / f"{job}.{restart}")
    for older in attempts(folder, job):
        if older < restart:
            (folder / f"{job}.{older}").unlink(missing_ok=True)
    return key


def register(folder: Path, job: int, restart: int, port: int, *, asks: bool = False, ca: str = "") -> None:
    """Publish where this attempt answers, whether it `asks` for its key, and what signed its certificate (`ca`: empty
    for plain HTTP), whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    document = {"job": job, "restart": restart, "node": node, "host": socket.gethostname(), "port": port}
    document |= {"key": asks, "ca": ca}
    draft = folder / f".{job}.{restart}.{os.getpid()}"
    with draft.open("w", encoding="utf-8") as file:
        json.dump({**document, "pid": os.getpid()}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / f"{job}.{restart}")


def restarts(folder: Path, job: int) -> list[int]:
    """Attempts of a job that registered, ascending."""
    return attempts(folder / REGISTERED, job)


def attempts(folder: Path, job: int) -> list[int]:
    """Attempts of a job that have a file in `folder`, ascending."""
    with suppress(FileNotFoundError):
        names = [path.name.split(".") for path in folder.iterdir() if not path.name.startswith(".")]
        return sorted(int(name[1]) for name in names if name[0] == str(job) and len(name) == 2 and name[1].isdigit())
    return []


def await_older(folder: Path, job: int, restart: int) -> None:
    """Return when no older attempt of this job is registered, or after `OLDER_S` seconds."""
    deadline = time.monotonic() + OLDER_S
    while min(restarts(folder, job), default=restart) < restart and time.monotonic() < deadline:
        time.sleep(TICK_S)


def is_fenced(folder: Path, job: int, restart: int) -> bool:
    """Whether a younger attempt of this job registered. A shared filesystem that does not answer fences nobody."""
    try:
        return max(restarts(folder, job), default=restart) > restart
    except OSError:
        return False


def start(document: dict[str, Any], port: int, cache: str, key: str = "") -> subprocess.Popen[bytes]:
    """The engine in a process group of its own, with this node's values in its command and environment, and with its
    key in the variables that it reads it from: an environment is its owner's alone, an argument everybody's."""
    values = {"host": "0.0.0.0", "port": str(port), "cache": cache}  # noqa: S104 (a node of a cluster)
    values["threads"] = str(len(os.sched_getaffinity(0)))

    def filled(text: str) -> str:
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    environment = {name: filled(value) for name, value in document["environment"].items()}
    environment |= dict.fromkeys(document.get("key_variables", ()), key)
    argv = [filled(word) for word in document["argv"]]
    if "caches" in document:
        fill_cache(document["caches"], Path(cache), argv[0])
    return subprocess.Popen(argv, env={**os.environ, **environment}, start_new_session=True, stdin=subprocess.DEVNULL)


def fill_cache(caches: dict[str, Any], cache: Path, program: str) -> None:
    """Copy the bundle's caches into this node's empty folder where machine and packages are those of their harvest
    (`agent/warm_caches.py`), and leave in the start's folder why not. Whatever fails, the start is cold."""
    try:
        if sys.version_info < (3, 10):  # noqa: UP036 (the node's own Python, whichever it is)
            raise ImportError("the node's Python is older than 3.10")
        sys.path.insert(0, caches["modules"])
        from slipway.agent.warm_caches import fill_start
        from slipway.errors import SlipwayError
    except ImportError as err:
        sys.stderr.write(f"starts cold: {err}\n")
        return
    try:
        fill_start(
            Path(caches["bundle"]), Path(caches["start"]), program=None if caches["in_image"] else program, cache=cache
        )
    except (OSError, SlipwayError) as err:  # the disk is full: half a copy is none
        sys.stderr.write(f"starts cold: {err}\n")
        for entry in cache.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def end(engine: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM to its group, SIGKILL after `grace_s` seconds."""
    with suppress(ProcessLookupError):
        if grace_s:
            os.killpg(engine.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                engine.wait(grace_s)
        os.killpg(engine.pid, signal.SIGKILL)
    engine.wait()


def requeue(job: int) -> None:
    """Ask Slurm to run this job again; it then ends us. A job that may not be requeued just ends."""
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(["scontrol", "requeue", str(job)], timeout=60, check=True)
        time.sleep(60)


def _end_quietly(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _end_quietly)
    sys.exit(main(Path(sys.argv[1])))
