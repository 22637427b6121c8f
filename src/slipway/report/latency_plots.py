"""Latency as its users feel it, whole: the share of requests, or of tokens, that came within a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slipway.evaluation.speed import QUANTILES
from slipway.report import plots

PARTS = {"ttft": ("time to first token", "% of requests"), "itl": ("between two tokens", "% of tokens")}


def latency_distributions(speeds: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure | None:
    """Cumulative distributions of TTFT and inter-token latency at the most callers that every model was measured with;
    None where no run has them. `speeds`: model -> speed runs."""
    runs = _at_most_callers(speeds)
    if not runs:
        return None
    callers = next(iter(runs.values()))["concurrency"]
    figure, panels = plots.panels(len(PARTS))
    for ax, (part, (title, share)) in zip(panels, PARTS.items(), strict=True):
        _draw(ax, {name: run[f"{part}_quantiles_ms"] for name, run in runs.items()})
        ax.set(
            xlabel="ms",
            ylabel=share,
            ylim=(0, 102),
            title=f"{title.capitalize()}, {callers} caller{'s' * (callers > 1)}",
        )
    panels[-1].legend(frameon=False, labelcolor=plots.INK, loc="lower right")
    return figure


def _draw(ax: Axes, distributions: Mapping[str, Sequence[float]]) -> None:
    for (name, values), color in zip(distributions.items(), plots.COLORS, strict=False):
        ax.plot(values, list(QUANTILES)[: len(values)], color=color, label=plots.LABELS.get(name, name), linewidth=1.5)
    ax.set_xlim(0, None)


def _at_most_callers(speeds: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Mapping[str, Any]]:
    """Model -> its run at the highest common concurrency, of those that recorded distributions."""
    measured = {
        name: {run["concurrency"]: run for run in runs if run.get("ttft_quantiles_ms") and run.get("itl_quantiles_ms")}
        for name, runs in speeds.items()
    }
    measured = {name: runs for name, runs in measured.items() if runs}
    common = set.intersection(*(set(runs) for runs in measured.values())) if measured else set()
    return {name: runs[max(common)] for name, runs in measured.items()} if common else {}
