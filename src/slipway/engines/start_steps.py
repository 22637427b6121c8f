"""The steps of an engine's start, read from its log while it is written: process, weights, compile, graphs, warm-up.

A line of the log may say that another step begins (`start_steps.json`, by engine); the time until the next such line is
that step's. An engine may come back to a step (TensorRT-LLM tunes and captures twice, for its estimate of the KV cache
and for good): its times add up. So the steps always sum to the whole start, and a step that the log never names has
none, its time is in the step before.

Times are of the clock here, when a line was first seen: an engine's own stamps have whole seconds, or none.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

from slipway.engines.driver import EngineKind

STEPS = ("process", "weights", "compile", "graphs", "warm_up")
MAX_READ = 4 << 20  # bytes of a log taken in at one look
MAX_LINE = 2000  # characters of a line that are searched


@dataclass(frozen=True)
class LogPatterns:
    """What one engine's log says. `begins`: (step, what a line that begins it holds); `compiles`: lines of work that
    a warm engine does not do any more."""

    begins: tuple[tuple[str, re.Pattern[str]], ...]
    compiles: re.Pattern[str] | None


@cache
def patterns_of(kind: EngineKind) -> LogPatterns:
    """The patterns of an engine's log, from the package's data."""
    table = json.loads(resources.files("slipway.engines").joinpath("start_steps.json").read_text(encoding="utf-8"))
    row = table[kind]
    begins = tuple((step, re.compile(pattern)) for step, pattern in row["begins"])
    return LogPatterns(begins, re.compile("|".join(row["compiles"])) if row["compiles"] else None)


def step_seconds(kind: EngineKind, lines: Iterable[tuple[float, str]], begin: float, ready: float) -> dict[str, float]:
    """Step -> seconds, of the steps that the log names and the first. `lines`: (time, line) in order; `begin`, `ready`:
    when the process was started and when it answered its health path; all of one clock, seconds. Sums to
    `ready - begin`."""
    seconds: dict[str, float] = {}
    step, since = STEPS[0], begin
    for at, line in lines:
        if at > ready:
            break
        begins = next((name for name, pattern in patterns_of(kind).begins if pattern.search(line[:MAX_LINE])), step)
        if begins != step:
            seconds[step] = seconds.get(step, 0.0) + at - since
            step, since = begins, at
    seconds[step] = seconds.get(step, 0.0) + ready - since
    return {name: seconds[name] for name in STEPS if name in seconds}


def compile_lines(kind: EngineKind, lines: Iterable[tuple[float, str]]) -> list[str]:
    """Lines in which the engine says that it compiles or tunes."""
    pattern = patterns_of(kind).compiles
    return [line for _, line in lines if pattern and pattern.search(line[:MAX_LINE])]


@dataclass
class LogWatch:
    """A log that is read on as it grows. `look()` takes in whole lines, each with the time it was first seen; it is
    called often while a server starts. A log that was cut or replaced is read from its beginning. `refresh`: brings the
    log up to date where it is a copy."""

    path: Path
    offset: int = 0
    clock: Callable[[], float] = time.monotonic
    lines: list[tuple[float, str]] = field(default_factory=list)
    refresh: Callable[[], object] = lambda: None
    _part: bytes = b""

    def look(self) -> None:
        """Take in what has been written since the last look; nothing while there is no log."""
        self.refresh()
        try:
            with self.path.open("rb") as log:
                if log.seek(0, 2) < self.offset:
                    self.offset, self._part = 0, b""
                log.seek(self.offset)
                data = log.read(MAX_READ)
        except FileNotFoundError:
            return
        self.offset += len(data)
        # progress bars write a line again and again behind carriage returns
        *whole, self._part = (self._part + data).replace(b"\r", b"\n").split(b"\n")
        now = self.clock()
        self.lines += [(now, line.decode(errors="replace")[:MAX_LINE]) for line in whole if line.strip()]

    def mark(self) -> int:
        """Where the next line will stand in `lines`."""
        self.look()
        return len(self.lines)
