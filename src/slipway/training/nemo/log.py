"""The steps of a NeMo AutoModel training, read from its files while it runs.

Two sources, merged by step (0-based, as upstream counts):

- `training.jsonl` in the checkpoint directory: exact, but late. Upstream keeps 100 lines in memory before it writes
  (components/loggers/metric_logger.py, DEFAULT_BUFFER_SIZE), and a killed process takes them along.
- the job's output: one line a step at once, rounded for reading (recipes/llm/train_ft.py, log_train_metrics).

A resumed run does the steps after its checkpoint again and appends them again. For each step the last exact line
counts, or the last line of the output where there is no exact one. A line cut short by a kill, and lines that hold no
step, are passed over.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from slipway.system.files import write_atomic
from slipway.system.tail import Tail

_OUTPUT_LINE = re.compile(
    r"step (?P<step>\d+) \| epoch (?P<epoch>\d+) \| loss (?P<loss>\S+) \| grad_norm (?P<grad_norm>\S+) \| "
    r"lr (?P<lr>\S+) \| mem (?P<mem>\S+) GiB \| tps (?P<tps>[^\s(]+)\(\S+/gpu\) \| num_label_tokens "
    r"(?P<num_label_tokens>\d+)"
)
_INTEGERS = ("step", "epoch", "num_label_tokens")


class TrainingLog:
    """The steps of one run over all its attempts, out of `exact` (training.jsonl) and `output` (the job's log)."""

    def __init__(self, exact: Path, output: Path) -> None:
        self._exact_lines, self._output_lines = Tail(exact), Tail(output)
        self._exact: dict[int, dict[str, Any]] = {}
        self._rounded: dict[int, dict[str, Any]] = {}
        self._shown = -1

    def new_steps(self) -> list[dict[str, Any]]:
        """Steps above the highest one returned so far, in order; each with upstream's keys (step, loss, lr, tps,
        mem)."""
        for text in self._exact_lines.lines():
            if step := _from_json(text):
                self._exact[step["step"]] = step
        for text in self._output_lines.lines():
            if step := _from_output(text):
                self._rounded[step["step"]] = step
        fresh = [s for s in self.history() if s["step"] > self._shown]
        self._shown = max([self._shown, *(s["step"] for s in fresh)])
        return fresh

    def history(self) -> list[dict[str, Any]]:
        """One entry for each step that either file holds, in order of steps."""
        steps = self._rounded | self._exact
        return [steps[n] for n in sorted(steps)]

    def write(self, file: Path, steps: int) -> None:
        """The history of the steps 0..steps-1 as JSON lines."""
        write_atomic(file, "".join(json.dumps(s) + "\n" for s in self.history() if s["step"] < steps))


def _from_json(text: str) -> dict[str, Any] | None:
    """The step of a line of training.jsonl, None for anything else. The line of a resumed run may follow, without a
    line break, on one that a kill cut short: what counts is the last object in it."""
    try:
        line = json.loads(text[max(0, text.rfind('{"step"')) :])
    except ValueError:
        return None
    is_step = isinstance(line, dict) and type(line.get("step")) is int and isinstance(line.get("loss"), int | float)
    return line if is_step else None


def _from_output(text: str) -> dict[str, Any] | None:
    """The step of a line of the job's output, None for any other line."""
    match = _OUTPUT_LINE.search(text)
    if match is None:
        return None
    try:
        return {k: int(v) if k in _INTEGERS else float(v) for k, v in match.groupdict().items()}
    except ValueError:
        return None
