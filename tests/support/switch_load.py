"""Clients of one address while engines change behind it: long streams, and short requests on new and kept connections.

An answer is whole when it ends as its kind must: a stream with `[DONE]`, whatever its status said. `Pointer` knows
which engine may answer at which time, so that an answer of another is a fault, not a matter of luck.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One request: its kind, who answered, why it failed (empty: it did not), when it was sent and when it began to be
    answered, on the monotonic clock."""

    kind: str
    engine: str
    fault: str
    sent: float
    begun: float


@dataclass
class Pointer:
    """Which engines may answer: one, or two from just before a switch until it is done."""

    changes: list[tuple[float, frozenset[str]]] = field(default_factory=list)

    def set(self, *engines: str) -> None:
        """From now on these and no others."""
        self.changes.append((time.monotonic(), frozenset(engines)))

    def allowed(self, sent: float, begun: float) -> set[str]:
        """Engines that some moment between these two allowed."""
        ends = [at for at, _ in self.changes[1:]] + [float("inf")]
        spans = zip(self.changes, ends, strict=True)
        return {engine for (start, engines), end in spans if start <= begun and end >= sent for engine in engines}


class SwitchLoad:
    """`streams` long answers at any time, one caller a connection and two on kept connections, until `stop`."""

    def __init__(self, host: str, port: int, *, streams: int = 20, events: int = 30, pause_s: float = 0.1) -> None:
        self.answers: list[Answer] = []
        self._address = (host, port)
        self._stream = {"stream": True, "events": events, "pause_s": pause_s}
        self._ended = threading.Event()
        workers = [("stream", False)] * streams + [("new connection", False)] + [("kept connection", True)] * 2
        self._threads = [threading.Thread(target=self._run, args=worker, daemon=True) for worker in workers]

    def __enter__(self) -> SwitchLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No new request; returns when those under way have ended."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        """Until so many more requests have been answered."""
        goal = len(self.answers) + count
        while len(self.answers) < goal:
            time.sleep(0.02)

    def report(self, pointer: Pointer) -> dict[str, Any]:
        """Counts by kind and by engine; `failed` with the reasons, `strays`: answers of an engine not pointed at."""
        faults = Counter(f"{answer.kind}: {answer.fault}" for answer in self.answers if answer.fault)
        strays = [a for a in self.answers if not a.fault and a.engine not in pointer.allowed(a.sent, a.begun)]
        waits = sorted(a.begun - a.sent for a in self.answers if not a.fault)
        return {
            "requests": dict(Counter(answer.kind for answer in self.answers)),
            "engines": dict(Counter(answer.engine for answer in self.answers if not answer.fault)),
            "failed": dict(faults),
            "strays": [f"{a.kind} by {a.engine}" for a in strays],
            "longest_wait_s": round(waits[-1], 2) if waits else None,
        }

    def per_step(self, pointer: Pointer) -> list[tuple[str, Counter[str]]]:
        """For each time with one engine: its name, and who gave the answers that were sent and begun in it."""
        ends = [at for at, _ in pointer.changes[1:]] + [float("inf")]
        return [
            (
                next(iter(engines)),
                Counter(a.engine for a in self.answers if not a.fault and a.sent >= start and a.begun <= end),
            )
            for (start, engines), end in zip(pointer.changes, ends, strict=True)
            if len(engines) == 1
        ]

    def _run(self, kind: str, kept: bool) -> None:
        connection = None
        while not self._ended.is_set():
            if connection is None or not kept:
                connection = http.client.HTTPConnection(*self._address, timeout=120)
            answer = self._ask(connection, kind)
            self.answers.append(answer)
            if answer.fault or not kept:
                connection.close()
                connection = None
            if kind != "stream":
                self._ended.wait(0.02)
        if connection is not None:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, kind: str) -> Answer:
        sent = begun = time.monotonic()
        engine = ""
        try:
            body = json.dumps(self._stream if kind == "stream" else {})
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                return Answer(kind, "", f"status {response.status}", sent, begun)
            first = response.readline()
            begun = time.monotonic()
            engine = json.loads(first.removeprefix(b"data: "))["engine"]
            end = first + response.read()
            whole = kind != "stream" or end.endswith(b"data: [DONE]\n\n")
            return Answer(kind, engine, "" if whole else "200 without [DONE]", sent, begun)
        except (OSError, http.client.HTTPException, ValueError) as err:
            return Answer(kind, engine, type(err).__name__, sent, begun)
