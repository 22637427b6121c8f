"""A look at what serves as a page: a sentence, the table of checks, and plots over the looks so far."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slipway.report.markdown import table
from slipway.report.plots import BLUE, COLORS, GREY, INK, ORANGE, panels, png
from slipway.report.watch_rows import COLUMNS, next_step, sentence, watch_rows

MOST_LOOKS = 52
LEAST_RATIO = 1e-1  # of a p-value to its level, where the axis of the inputs begins
PLOT = "watch.png"
Document = Mapping[str, Any]


@dataclass(frozen=True)
class WatchReport:
    """`inline` carries its plot as a data URI (Prefect artifacts), `linked` names it as the file beside it."""

    inline: str
    linked: str
    plot: bytes


def watch_report(looks: Sequence[Document]) -> WatchReport:
    """The report of the last of these looks, oldest first, at one target."""
    plot = png(watch_figure(looks))
    data = f"data:image/png;base64,{base64.b64encode(plot).decode()}"
    return WatchReport(_text(looks[-1], data), _text(looks[-1], PLOT), plot)


def watch_figure(looks: Sequence[Document]) -> Figure:
    """Three plots over the last looks: change of quality with its bound, answers' length, and how unlikely the inputs
    are. An alarm is a ring; a dotted line is where another release began to serve."""
    shown = list(looks[-MOST_LOOKS:])
    figure, (quality, verbosity, inputs) = panels(3)
    names = [check["name"] for check in shown[-1]["checks"] if _is_quality(check)]
    for name, color in zip(names, COLORS, strict=False):
        _line(quality, shown, name, color, 100)
    quality.set(title="Quality since the evaluation", ylabel="points; bar: its upper bound")
    _margin(quality, shown, names[0] if names else "", 100)
    for name, color in (("answers longer", BLUE), ("answers shorter", GREY)):
        _line(verbosity, shown, name, color, 1)
        _margin(verbosity, shown, name, 1)
    verbosity.set(title="Tokens of an answer, now over then", ylabel="times")
    for name, color in zip(("input lengths", "input n-grams", "input labels"), COLORS, strict=False):
        _ratios(inputs, shown, name, color)
    inputs.set(title="Captured requests", ylabel="p / level; an alarm at 1", yscale="log")
    inputs.axhline(1, color=ORANGE, linestyle="--", linewidth=1)
    if not inputs.get_legend_handles_labels()[1]:
        inputs.text(0.5, 0.5, "no captured prompts compared", transform=inputs.transAxes, ha="center", color=GREY)
    for axes in (quality, verbosity, inputs):
        _looks_axis(axes, shown)
    return figure


def _line(axes: Axes, looks: Sequence[Document], name: str, color: str, scale: float) -> None:
    points = [(at, check) for at, check in _points(looks, name) if check["value"] is not None]
    axes.plot([at for at, _ in points], [scale * c["value"] for _, c in points], "o-", color=color, label=name, ms=4)
    for at, check in points:
        if check["bound"] is not None:
            axes.plot([at, at], [scale * check["value"], scale * check["bound"]], color=color, linewidth=1)
        if check["outcome"] == "alarm":
            axes.plot([at], [scale * check["value"]], "o", color=ORANGE, ms=11, fillstyle="none")


def _ratios(axes: Axes, looks: Sequence[Document], name: str, color: str) -> None:
    points = [(at, check) for at, check in _points(looks, name) if check["p"] is not None]
    ratios = [max(LEAST_RATIO, check["p"] / check["level"]) for _, check in points]
    if points:
        axes.plot([at for at, _ in points], ratios, "o-", color=color, label=name, ms=4)
    for (at, check), ratio in zip(points, ratios, strict=True):
        if check["outcome"] == "alarm":
            axes.plot([at], [ratio], "o", color=ORANGE, ms=11, fillstyle="none")


def _margin(axes: Axes, looks: Sequence[Document], name: str, scale: float) -> None:
    margins = [check["margin"] for _, check in _points(looks[-1:], name)]
    if margins and margins[0] is not None:
        axes.axhline(scale * margins[0], color=ORANGE, linestyle="--", linewidth=1)


def _looks_axis(axes: Axes, looks: Sequence[Document]) -> None:
    """Ticks by date, a line where the release changes, the legend."""
    step = max(1, len(looks) // 4)
    places = range(0, len(looks), step)
    axes.set_xticks(list(places), [looks[at]["at"][5:10] for at in places])
    axes.set_xlim(-0.5, max(1, len(looks)) - 0.5)
    for at in range(1, len(looks)):
        if (looks[at]["release"], looks[at]["created"]) != (looks[at - 1]["release"], looks[at - 1]["created"]):
            axes.axvline(at - 0.5, color=GREY, linestyle=":", linewidth=1)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, labelcolor=INK, fontsize=7)


def _points(looks: Sequence[Document], name: str) -> list[tuple[int, Document]]:
    return [(at, check) for at, look in enumerate(looks) for check in look["checks"] if check["name"] == name]


def _is_quality(check: Document) -> bool:
    return bool(check["unit"] == "share" and check["name"] != "unanswered")


def _text(look: Document, image: str) -> str:
    rows = [list(row.values()) for row in watch_rows(look)]
    counts = look["traffic"]
    left = "".join(f"; left out {count} {reason}" for reason, count in counts["left_out"].items())
    parts = [
        f"# {sentence(look)}",
        f"Next: {next_step(look)}" if next_step(look) else "",
        table(COLUMNS, rows),
        f"![looks]({image})",
        f"{look['rows']['answered']} of {look['rows']['asked']} test rows answered (the evaluation has "
        f"{look['rows']['of']}); {counts['compared']} of {counts['captured']} captured prompts compared{left}.",
        "".join(f"Not judged: {name}, {reason}.\n\n" for name, reason in look["not_judged"].items()),
        f"Look {look['look']} of its week. All checks of it together give a false alarm with a probability of "
        f"{look['level']:.2g} at most, those of {look['weeks']} weeks of {look['alpha']:g}.",
        *look["notes"],
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"
