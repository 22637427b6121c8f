"""llama-server as the engine's own HTTP server: started, announced when it is healthy, stopped as the engine stops.

LAB_FAULT plans what goes wrong: `dies` while loading, `garbage` answers, `compiles` during the first requests,
`ignores-sigterm`. LAB_HOLD_S keeps the server unhealthy so long.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .weights import scrambled

PROGRAM = Path(__file__).resolve().parents[1] / "llama-server"
_COMPILES = 3  # requests that compile a kernel each, under LAB_FAULT=compiles


@dataclass(frozen=True)
class Serving:
    """What is served where; `context` tokens for each of `slots` requests."""

    gguf: Path
    host: str
    port: int
    alias: str
    context: int
    slots: int


def fault() -> str:
    """The planned fault, empty for none."""
    return os.environ.get("LAB_FAULT", "")


def require_port(host: str, port: int) -> None:
    """Bind as the real servers do before they load: OSError with the system's words when the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def serve(serving: Serving, announce: Callable[[], None], compiled: Callable[[int], None]) -> int:
    """Serve until SIGTERM or until llama-server ends; the exit code. `compiled(n)` writes and logs what the n-th
    request compiles."""
    time.sleep(float(os.environ.get("LAB_HOLD_S", "0")))
    with tempfile.TemporaryDirectory() as folder:
        gguf = scrambled(serving.gguf, Path(folder) / "garbage.gguf") if fault() == "garbage" else serving.gguf
        stopping = threading.Event()
        child = subprocess.Popen(
            _command(serving, gguf), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=_end_with
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: _stop(child, stopping))
        assert child.stdout is not None
        threading.Thread(target=_announce_when_healthy, args=(serving, child, announce), daemon=True).start()
        _copy_log(child.stdout, compiled)
        code = child.wait()
    return 0 if stopping.is_set() else code or 1


def _command(serving: Serving, gguf: Path) -> list[str]:
    options = {
        "--model": gguf,
        "--alias": serving.alias,
        "--host": serving.host,
        "--port": serving.port,
        "--ctx-size": serving.context * serving.slots,
        "--parallel": serving.slots,
        "--threads": 1,
        "--cache-ram": 0,
        "--threads-http": serving.slots + 2,
    }
    return [str(PROGRAM), *(str(word) for pair in options.items() for word in pair), "--metrics", "--offline"]


def _end_with() -> None:
    """The child dies with its parent, even when that is killed; PR_SET_PDEATHSIG is 1."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _stop(child: subprocess.Popen[str], stopping: threading.Event) -> None:
    if fault() == "ignores-sigterm":
        print("INFO:     Waiting for background tasks to complete. (CTRL+C to force quit)", flush=True)
        return
    stopping.set()
    print("INFO:     Shutting down", flush=True)
    child.terminate()


def _announce_when_healthy(serving: Serving, child: subprocess.Popen[str], announce: Callable[[], None]) -> None:
    host = "127.0.0.1" if serving.host in ("0.0.0.0", "::") else serving.host
    while child.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{host}:{serving.port}/health", timeout=2) as answer:
                if answer.status == 200:
                    return announce()
        except OSError:
            time.sleep(0.05)
    return None


def _copy_log(lines: IO[str], compiled: Callable[[int], None]) -> None:
    requests = 0
    for line in lines:
        sys.stdout.write(line)
        if "stop processing" in line:  # llama-server, at the end of an answer
            requests += 1
            if fault() == "compiles" and requests <= _COMPILES:
                compiled(requests)
        sys.stdout.flush()
