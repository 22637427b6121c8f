"""What NeMo AutoModel says while it trains, read from outside while it runs.

Two sources, merged by step (0-based, as upstream counts):

- `training.jsonl` in the checkpoint directory: exact, but late. Upstream keeps 100 lines in memory before it writes
  (components/loggers/metric_logger.py, DEFAULT_BUFFER_SIZE), and a killed process takes them along.
- the job's output: one line a step at once, rounded for reading (recipes/llm/train_ft.py, log_train_metrics).

A resumed run does the steps after its checkpoint again and appends them again: the last word on a step counts, and the
exact one is preferred. A line cut short by a kill, and whatever else stands in the files, is passed over.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from slipway.system.files import write_atomic
from slipway.system.tail import Tail

_SAID = re.compile(
    r"step (?P<step>\d+) \| epoch (?P<epoch>\d+) \| loss (?P<loss>\S+) \| grad_norm (?P<grad_norm>\S+) \| lr "
    r"(?P<lr>\S+) \| "
    r"mem (?P<mem>\S+) GiB \| tps (?P<tps>[^\s(]+)\(\S+/gpu\) \| num_label_tokens (?P<num_label_tokens>\d+)"
)
_WHOLE = ("step", "epoch", "num_label_tokens")


class TrainingLog:
    """The steps of one run, over all its attempts."""

    def __init__(self, exact: Path, output: Path) -> None:
        self._exact_lines, self._output_lines = Tail(exact), Tail(output)
        self._exact: dict[int, dict[str, Any]] = {}
        self._said: dict[int, dict[str, Any]] = {}
        self._shown = -1

    def new(self) -> list[dict[str, Any]]:
        """Steps heard of for the first time, in order."""
        for text in self._exact_lines.lines():
            if step := _from_json(text):
                self._exact[step["step"]] = step
        for text in self._output_lines.lines():
            if step := _from_output(text):
                self._said[step["step"]] = step
        fresh = [s for s in self.history() if s["step"] > self._shown]
        self._shown = max([self._shown, *(s["step"] for s in fresh)])
        return fresh

    def history(self) -> list[dict[str, Any]]:
        """One entry a step, by step."""
        steps = self._said | self._exact
        return [steps[n] for n in sorted(steps)]

    def write(self, file: Path, steps: int) -> None:
        """The history of the steps 0..steps-1 as JSON lines."""
        write_atomic(file, "".join(json.dumps(s) + "\n" for s in self.history() if s["step"] < steps))


def _from_json(text: str) -> dict[str, Any] | None:
    """The step of a line; one that stands behind a line cut short by a kill counts too."""
    try:
        line = json.loads(text[max(0, text.rfind('{"step"')) :])
    except ValueError:
        return None
    sound = isinstance(line, dict) and type(line.get("step")) is int and isinstance(line.get("loss"), int | float)
    return line if sound else None


def _from_output(text: str) -> dict[str, Any] | None:
    match = _SAID.search(text)
    if match is None:
        return None
    try:
        return {k: int(v) if k in _WHOLE else float(v) for k, v in match.groupdict().items()}
    except ValueError:
        return None
