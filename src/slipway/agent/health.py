"""Whether an engine answers: one GET of its health path, past whatever proxy the environment names."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from pathlib import Path

from slipway.errors import EngineError, StateError

EVERY_S = 0.1
LOOK_S = 5.0


def base_url(host: str, port: int, *, tls: bool = False) -> str:
    """`http://host:port`, with `tls` https; an IPv6 address in brackets."""
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def answers(
    host: str, port: int, path: str, timeout_s: float = LOOK_S, *, key_file: str = "", ca_file: str = ""
) -> bool:
    """Whether a GET of `path` answers 200 within `timeout_s` seconds, asked with the key in `key_file` and over TLS by
    `ca_file` where they are named: without those files nothing can be asked, so nothing answers. http.client knows no
    proxy and no redirect."""
    from slipway.agent.engine_key import EngineAccess, read_key  # a target that serves nothing needs none of it

    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        access = EngineAccess(read_key(key_file), ca_file)
        if context := access.context():
            connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
        connection.request("GET", path, headers=access.headers())
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException, StateError):
        return False
    finally:
        connection.close()


def await_health(
    host: str,
    port: int,
    path: str,
    limit_s: float,
    is_running: Callable[[], bool],
    tail: Callable[[], str],
    *,
    key_file: str = "",
    ca_file: str = "",
) -> None:
    """Return when the engine answers and runs; files as of `answers`. Raises EngineError with the end of its log,
    as `tail` reads it, as soon as it has ended, or when it does not answer within `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while not answers(host, port, path, timeout_s=2, key_file=key_file, ca_file=ca_file):
        if not is_running():
            raise _failed(port, "died", f"a server that answers {path}", tail())
        if time.monotonic() > deadline:
            raise _failed(port, "not healthy yet", f"healthy within {limit_s:.0f} s", tail())
        time.sleep(EVERY_S)
    if not is_running():  # what answered is a stranger on its port
        raise _failed(port, "died", f"a server that answers {path}", tail())


def log_tail(path: Path, lines: int = 12, most_bytes: int = 1 << 16) -> str:
    """Last lines of a log, empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most_bytes))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-lines:])


def _failed(port: int, state: str, expected: str, tail: str) -> EngineError:
    next_step = "read engine.log in the release's folder, or its end above"
    return EngineError(f"engine server on port {port}", f"{state}. Last log lines:\n{tail}", expected, next_step)
