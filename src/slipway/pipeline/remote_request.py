"""One request to another machine: an ssh command, a JSON line to it, JSON lines from it (`ops/remote_side.py`)."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

ALIVE_S = 10.0  # between two signs of life to the other side, which ends itself after 60 s without one
END_S = 30.0  # that the other side has, beyond the stage's own time to stop, after a cancel
Document = dict[str, Any]
OnEvent = Callable[[Document], None]


class RemoteRequest:
    """One ssh command that a verb runs over. `errors`: a file that takes what it prints to standard error."""

    def __init__(self, argv: Sequence[str], request: Mapping[str, Any], errors: IO[bytes]) -> None:
        # a session of its own: Ctrl-C is for us, who tell the other side
        self._ssh = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
        self._lock, self._ending = threading.Lock(), threading.Event()
        self._say(request)
        threading.Thread(target=self._alive, daemon=True).start()

    def __enter__(self) -> RemoteRequest:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def result(self, on_event: OnEvent) -> Document | None:
        """The line that ends the request; None when it ended without one. What a login shell prints is passed over."""
        assert self._ssh.stdout is not None
        for line in self._ssh.stdout:
            message = _message(line)
            if "event" in message:
                on_event(message["event"])
            elif "result" in message or "error" in message:
                return message
        return None

    def cancel(self, limit_s: float) -> None:
        """Have the stage ended there, and wait for that."""
        self._say({"cancel": True})
        try:
            self._ssh.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._ssh.kill()

    def end(self) -> int:
        """ssh's exit code, once it has ended."""
        self._ending.set()
        with self._lock:
            if self._ssh.stdin is not None and not self._ssh.stdin.closed:
                with suppress(OSError):
                    self._ssh.stdin.close()
        try:
            return self._ssh.wait(END_S)
        except subprocess.TimeoutExpired:
            self._ssh.kill()
            return self._ssh.wait()
        finally:
            if self._ssh.stdout is not None:
                self._ssh.stdout.close()

    def _alive(self) -> None:
        while not self._ending.wait(ALIVE_S):
            self._say({"alive": True})

    def _say(self, document: Mapping[str, Any]) -> None:
        with self._lock, suppress(OSError, ValueError):  # ended: `result` says so
            assert self._ssh.stdin is not None
            self._ssh.stdin.write(json.dumps(document).encode() + b"\n")
            self._ssh.stdin.flush()


def _message(line: bytes) -> Document:
    """A line of the other side; empty for one of its login shell's."""
    try:
        document = json.loads(line)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
