"""What a person sees in a terminal while stages work: one line a stage, from the stages' own events.

`describe` gives the same facts as one line of text, for logs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from slipway.cli.output import console
from slipway.system.progress import Progress as Reporter
from slipway.system.throttle import Throttle

_EVENT_KEYS = ("t", "event", "what", "done", "total", "unit")


def figures(event: dict[str, Any]) -> str:
    """`loss 0.312, 1,240 tokens/s`: the figures beside a progress event's counts."""
    return ", ".join(_figure(k, v) for k, v in event.items() if k not in _EVENT_KEYS and isinstance(v, int | float))


def _figure(name: str, value: float) -> str:
    if name == "eta_s":
        return f"ETA {clock(value)}"
    if name == "anon_gb":
        return f"{value:.3g} GB memory"
    if name == "gb_per_s":
        return f"{value:.3g} GB/s"
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{text} {name.removesuffix('_per_s')}/s" if name.endswith("_per_s") else f"{name} {text}"


def describe(event: dict[str, Any]) -> str:
    """One line for a log: `train 40/120 steps, loss 0.312, 1,240 tokens/s`, `quantize 1.2 GB/16.1 GB, 0.42 GB/s,
    layers.3.mlp.up_proj`.
    """
    if event["event"] == "note":
        return str(event["text"])
    tensor = str(event.get("tensor", "")).removesuffix(".weight")
    return ", ".join(part for part in (_counts(event), figures(event), tensor) if part)


def _counts(event: dict[str, Any]) -> str:
    counts = [event["done"], *([event["total"]] if event.get("total") else [])]
    if event["unit"] == "bytes":
        return f"{event['what']} {'/'.join(human_bytes(n) for n in counts)}"
    return f"{event['what']} {'/'.join(f'{n:,g}' for n in counts)} {event['unit']}"


def clock(seconds: float) -> str:
    """`1:05`, or `1:00:05` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """`0.4 s`, `52 s`, `7 min 31 s`, `3 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def human_bytes(n: float) -> str:
    """Decimal units, as disks and GPUs are sold: `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n) < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


class Clock(ProgressColumn):
    """Time since the stage began, and what its present phase still needs; nothing once it ended."""

    def render(self, task: Task) -> Text:
        """`2:05, ETA 0:40`."""
        if task.finished:
            return Text("")
        remaining = f", ETA {clock(task.time_remaining)}" if task.time_remaining is not None else ""
        return Text(f"{clock(time.monotonic() - task.fields['started'])}{remaining}", style="progress.elapsed")


class Bars:
    """Live lines on a terminal; silent elsewhere (`live` says which)."""

    def __init__(self, shown: Console) -> None:
        self.console = shown
        self.live = shown.is_terminal
        self._progress = Progress(
            SpinnerColumn(finished_text="·"),
            TextColumn("{task.fields[label]:<20}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[detail]}"),
            Clock(),
            console=shown,
            disable=not self.live,
        )

    @contextmanager
    def open(self) -> Iterator[Bars]:
        """Shown for the time of the block."""
        with self._progress:
            yield self

    @contextmanager
    def stage(self, label: str) -> Iterator[StageLine]:
        """The line of one stage; it stays on the screen when the stage ends."""
        task = self._progress.add_task("", total=None, label=label, detail="starting", started=time.monotonic())
        try:
            yield StageLine(self._progress, task)
        except BaseException:
            self._progress.update(task, detail="[red]failed[/]")
            raise
        finally:
            self._progress.update(task, total=1, completed=1)


class LiveProgress(Reporter):
    """A stage's events on this terminal as they happen: a bar when there is one, else a line now and then on stderr."""

    def __init__(self, line: StageLine, shown: Console, every_s: float = 10.0) -> None:
        super().__init__()
        self._line, self._console, self._throttle = line, shown, Throttle(every_s)

    def _write(self, **event: Any) -> None:
        if self._console.is_terminal:
            self._line.event(event)
        elif event["event"] == "note" or self._throttle.due():
            self._console.print(describe(event), highlight=False, markup=False, soft_wrap=True)


class StageLine:
    """One stage's line."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task, self._what = progress, task, ""

    def event(self, event: dict[str, Any]) -> None:
        """Show an event that the stage reported."""
        if event["event"] == "note":
            self.say(event["text"])
        elif event["event"] == "progress":
            if event["what"] != self._what:  # another phase: its own speed, its own ETA
                self._what = event["what"]
                self._progress.reset(self._task, total=event["total"])
            self._progress.update(self._task, total=event["total"], completed=event["done"], detail=describe(event))

    def say(self, text: str) -> None:
        """Show a sentence, its first 100 characters."""
        self._progress.update(self._task, detail=text[:100])


@contextmanager
def live(label: str, every_s: float = 10.0) -> Iterator[LiveProgress]:
    """Progress of one piece of work on stderr, for a command that does it in its own process.

    `every_s`: seconds between two lines where there is no terminal.
    """
    shown = console(stderr=True)
    bars = Bars(shown)
    with bars.open(), bars.stage(label) as line:
        yield LiveProgress(line, shown, every_s)
