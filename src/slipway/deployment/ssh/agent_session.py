"""The orchestrator's end of a session with an agent in another process, here or behind ssh (`agent/session.py`)."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from slipway.agent.session import PROTOCOL
from slipway.errors import ConfigError, EngineError, SlipwayError

ALIVE_S = 10.0  # between signs of life: the agent waits for six of them
CLOSE_S = 30.0  # for an agent that undoes something
Note = Callable[[str], None]
Document = dict[str, Any]
NEXT = "`slipway target set-up` brings the target to this version"


class AgentSession:
    """An open session; `open_session` makes one. Not for two threads at once."""

    def __init__(self, process: subprocess.Popen[bytes], where: str, ended: Callable[[str], SlipwayError]) -> None:
        self._process, self._where, self._ended = process, where, ended
        self._writing = threading.Lock()
        self._done = threading.Event()
        self.agent: Document = {}

    def call(self, verb: str, document: Document, note: Note = lambda _: None) -> Document:
        """The result of a verb. Raises what the verb raises on the target; what `ended` says when the session ends
        before the answer; ConfigError for an answer that is none of ours."""
        self._send({**document, "verb": verb}, verb)
        while True:
            answer = self._receive(verb)
            if "note" in answer:
                note(str(answer["note"]))
            elif "error" in answer:
                raise _error(answer["error"], self._where)
            elif isinstance(answer.get("result"), dict):
                return dict(answer["result"])
            else:
                raise ConfigError(f"answer of the agent on {self._where}", str(answer)[:200], "a result", NEXT)

    def greet(self) -> None:
        """Read who answers. Raises ConfigError for an agent of another protocol."""
        self.agent = dict(self._receive("session").get("agent") or {})
        protocol = self.agent.get("protocol")
        if protocol != PROTOCOL:
            older = isinstance(protocol, int) and protocol > PROTOCOL
            next_step = "bring this machine's slipway to the target's version" if older else NEXT
            value = f"protocol {str(protocol)[:20]}"
            raise ConfigError(f"agent on {self._where}", value, f"protocol {PROTOCOL}", next_step)
        threading.Thread(target=self._keep_alive, daemon=True).start()

    def close(self) -> None:
        """End the session and wait until the agent has undone what is not recorded, if there is anything."""
        self._done.set()
        with suppress(OSError), self._writing:
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _send(self, document: Document, verb: str) -> None:
        try:
            self._write(json.dumps(document).encode() + b"\n")
        except (OSError, ValueError) as err:
            raise self._ended(verb) from err

    def _receive(self, verb: str) -> Document:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._ended(verb)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            words = line.decode(errors="replace").strip()[:200]
            next_step = "no profile of the login may print anything; " + NEXT
            raise ConfigError(f"answer of the agent on {self._where}", words, "a JSON object", next_step)
        return answer

    def _write(self, data: bytes) -> None:
        with self._writing:
            assert self._process.stdin is not None
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _keep_alive(self) -> None:
        with suppress(OSError, ValueError):  # the session ended: its next answer says so
            while not self._done.wait(ALIVE_S):
                self._write(b"\n")


@contextmanager
def open_session(
    argv: Sequence[str], where: str, ended: Callable[[str, str], SlipwayError] | None = None
) -> Iterator[AgentSession]:
    """A session with what `argv` starts, an agent called `where` in messages, for the time of the block.

    `ended(phase, words)`: the error for a session that ended in a phase, with the last words on its standard error;
    default: an EngineError. Raises it, or ConfigError, when no session comes about.
    """
    with tempfile.TemporaryFile() as errors:

        def error(phase: str) -> SlipwayError:
            with suppress(subprocess.TimeoutExpired):
                process.wait(CLOSE_S)
            words = _last_words(errors)
            if ended:
                return ended(phase, words)
            return EngineError(f"{phase} on {where}", f"the agent ended: {words}", "an answer", "run again")

        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        session = AgentSession(process, where, error)
        try:
            session.greet()
            yield session
        finally:
            session.close()


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no word of a reason"


def _error(document: object, where: str) -> SlipwayError:
    parts = ("type", "thing", "value", "expected", "next_step")
    if not isinstance(document, dict) or not all(isinstance(document.get(part), str) for part in parts):
        return ConfigError(f"answer of the agent on {where}", str(document)[:200], "an error of ours", NEXT)
    return SlipwayError.from_json(document)
