"""One orchestrator's session with the agent: JSON documents, one a line, in both directions (ADR 44).

    <- {"agent": {"protocol": 1, "root": "...", "pid": 4711}}        first, unasked
    -> {"verb": "probe", ...}
    <- {"note": "..."}                                               any number
    <- {"result": {...}}  or  {"error": <SlipwayError.to_json()>}

An empty line is a sign of life; it is sent while nothing is asked. Who is silent for `SILENCE_S` counts as gone, as if
the connection had ended: a cut cable does not end one, and sshd would wait for hours. Then the agent is closed, which
undoes what is not recorded. A verb that runs meanwhile ends at its next note.
"""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import traceback
from collections import deque
from typing import Any

from slipway.agent.agent import Agent
from slipway.agent.records import shown
from slipway.errors import ConfigError, SlipwayError

PROTOCOL = 1
SILENCE_S = 60.0
LONGEST_LINE = 32 << 20  # bytes of one document; more is no document of an orchestrator
_NEXT = "`slipway target set-up` brings the target to the orchestrator's version"


class LinkLost(Exception):  # noqa: N818 (what happened, not a fault of anybody's)
    """Nobody listens any more."""


class Session:
    """Answers documents that come in at the descriptor `source` with lines written to the descriptor `sink`."""

    def __init__(self, agent: Agent, source: int, sink: int, silence_s: float = SILENCE_S) -> None:
        self._agent, self._source, self._sink, self._silence_s = agent, source, sink, silence_s
        self._lines: deque[bytes] = deque()
        self._arrived = threading.Condition()
        self._lost = False

    def serve(self) -> None:
        """Answer until the orchestrator ends the session or is gone; the agent is closed then."""
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._write({"agent": {"protocol": PROTOCOL, "root": str(self._agent.paths.root), "pid": os.getpid()}})
            while (line := self._next()) is not None:
                self._write(self._answer(line))
        except LinkLost:
            pass
        finally:
            self._agent.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            document = _document(line)
            return {"result": self._agent.call(document.pop("verb"), document, self._note)}
        except SlipwayError as err:
            return {"error": err.to_json()}
        except LinkLost:
            raise
        except Exception as err:  # noqa: BLE001 (a fault of the agent's must not look like a cut link)
            traceback.print_exc()
            words = f"{type(err).__name__}: {shown(str(err))}"
            return {"error": SlipwayError("agent", words, "no bug", "report it with the text above").to_json()}

    def _note(self, text: str) -> None:
        if self._lost:
            raise LinkLost
        self._write({"note": text})

    def _write(self, document: dict[str, Any]) -> None:
        rest = memoryview(json.dumps(document).encode() + b"\n")
        try:
            while rest:
                rest = rest[os.write(self._sink, rest) :]
        except OSError as err:
            raise LinkLost from err

    def _next(self) -> bytes | None:
        """The next document's line; None at the end."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._lines or self._lost)
            return self._lines.popleft() if self._lines and not self._lost else None

    def _read(self) -> None:
        """Collect lines until end of file, silence, or a line without end. What came before a loss is not begun."""
        rest = bytearray()
        while select.select([self._source], [], [], self._silence_s)[0]:
            piece = os.read(self._source, 1 << 16)
            if not piece or len(rest) > LONGEST_LINE:
                break
            rest += piece
            if b"\n" not in piece:  # a document of megabytes comes in many pieces
                continue
            *lines, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            with self._arrived:
                self._lines.extend(line for line in lines if line.strip())
                self._arrived.notify_all()
        with self._arrived:
            self._lost = True
            self._arrived.notify_all()


def serve_standard_streams(agent: Agent) -> int:
    """A session over standard input and output, as sshd connects them; the exit code. Whatever else the agent or what
    it starts prints goes to standard error."""
    sink = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    Session(agent, sys.stdin.fileno(), sink).serve()
    return 0


def _document(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as err:
        words = shown(line.decode(errors="replace"))
        raise ConfigError("document of a session", words, "JSON on one line", _NEXT) from err
    if not isinstance(document, dict) or not isinstance(document.get("verb"), str):
        raise ConfigError("document of a session", shown(document), "an object with `verb`", _NEXT)
    return document
