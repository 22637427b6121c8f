"""The plots of a run: loss, quality with intervals, latency and throughput. Figures of matplotlib, as PNG or SVG bytes.

Every function takes what it draws and returns a `Figure`; `png` is for places that show images alone (Prefect, MLflow),
`svg` for the HTML page, where lines and text take the colour of the page (light or dark) they stand on.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from slipway.evaluation.metric import SHARE, entries

DPI = 80  # a plot stays near 20 KB, so that a UI artifact can carry it inline
PANELS = 3  # metrics that a plot shows; the tables have all
BLUE, ORANGE, GREEN, GREY = "#2f6fb0", "#d9822b", "#3f9b63", "#8a8f98"
INK = "#1f2329"
COLORS = (BLUE, ORANGE, GREEN, GREY)
LABELS = {
    "base": "base",
    "merged": "fine-tuned",
    "candidate": "quantized",
    "champion": "champion",
    "best": "best release",
}


def loss_curve(steps: Sequence[Mapping[str, float]], held_out: float | None) -> Figure:
    """Training loss in nats per completion token over optimizer steps, and the validation loss at the end."""
    figure, (axes,) = panels(1)
    axes.plot([s["step"] for s in steps], [s["loss"] for s in steps], color=BLUE, linewidth=1.2)
    if held_out is not None:
        axes.axhline(
            held_out, color=ORANGE, linestyle="--", linewidth=1, label=f"validation, at the end: {held_out:.3f}"
        )
        axes.legend(frameon=False, labelcolor=INK)
    axes.set(xlabel="optimizer step", ylabel="loss, nats per completion token", ylim=(0, None), title="Training")
    return figure


def quality_bars(
    documents: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], floors: Mapping[str, float]
) -> Figure:
    """The first metrics (`titles`: name -> title) of every served model with their intervals, and the gate's floors.
    `documents`: model -> its `metrics.json`."""
    shown = list(titles.items())[:PANELS]
    figure, axes = panels(max(1, len(shown)))
    for ax, (name, title) in zip(axes, shown, strict=False):
        measured = {model: entries(doc)[name] for model, doc in documents.items() if name in entries(doc)}
        _bars(ax, {model: entry for model, entry in measured.items() if entry["value"] is not None}, title)
        if name in floors:
            scale = 100 if next(iter(measured.values()))["unit"] == SHARE else 1
            ax.axhline(scale * floors[name], color=ORANGE, linestyle="--", linewidth=1, label="gate's floor")
            ax.legend(frameon=False, labelcolor=INK, loc="upper left")
    return figure


def _bars(ax: Axes, measured: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """One bar a model with its interval, an unbounded end left out; shares in percent."""
    unit = next((entry["unit"] for entry in measured.values()), SHARE)
    scale, label = (100, "% of test items") if unit == SHARE else (1, unit)
    values = [scale * entry["value"] for entry in measured.values()]
    errors = [
        [
            max(0.0, sign * (v - scale * e[end])) if e[end] is not None else 0.0
            for v, e in zip(values, measured.values(), strict=True)
        ]
        for end, sign in (("low", 1), ("high", -1))
    ]
    names = [LABELS.get(n, n) for n in measured]
    bars = ax.bar(names, values, yerr=errors, color=BLUE, ecolor=GREY, capsize=4, width=0.6)
    number = "{:.1f}" if unit == SHARE else "{:.3g}"
    ax.bar_label(bars, [number.format(v) for v in values], padding=3, fontsize=8, color=INK)
    ax.set(ylim=(0, 112) if unit == SHARE else None, ylabel=label, title=title)


def rule_intervals(rules: Sequence[Mapping[str, Any]]) -> Figure:
    """The gate's paired rules on shares: difference and interval in percentage points, one line a rule, and a mark at
    the margin below which the whole interval fails."""
    figure, (axes,) = panels(1, height=1.1 + 0.55 * len(rules))
    for at, rule in enumerate(rules):
        color = {"pass": GREEN, "fail": ORANGE}.get(rule["outcome"], GREY)
        if rule["value"] is not None:
            ends = [100 * rule[end] if rule[end] is not None else 100 * rule["value"] for end in ("low", "high")]
            axes.plot(ends, [at, at], color=color, linewidth=2)
            axes.plot(100 * rule["value"], at, marker="o", color=color)
        axes.plot(100 * rule["expected"], at, marker="|", markersize=16, color=INK, linestyle="none")
    axes.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rules)), [f"{rule['metric']}\nagainst {rule['against']}" for rule in rules])
    axes.set(xlabel="percentage points, candidate - reference; |: margin", title="Paired rules of the gate")
    axes.invert_yaxis()
    axes.margins(y=0.3)
    return figure


def effect_intervals(effects: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Figure:
    """Paired differences of shares with their intervals, in percentage points, one panel an effect. `effects`: label of
    an effect -> title of a metric -> entry with value, low and high (None: no bound)."""
    most = max(len(entries) for entries in effects.values())
    figure, axes = panels(len(effects), height=1.1 + 0.45 * most)
    for (label, named), ax, color in zip(effects.items(), axes, COLORS, strict=False):
        for at, entry in enumerate(named.values()):
            if entry["value"] is None:
                continue
            value, *ends = (
                100 * (entry[k] if entry[k] is not None else entry["value"]) for k in ("value", "low", "high")
            )
            ax.plot(ends, [at, at], color=color, linewidth=2)
            ax.plot(value, at, marker="o", color=color)
            ax.annotate(
                f"{value:+.1f}", (value, at), (0, 6), textcoords="offset points", ha="center", fontsize=8, color=INK
            )
        ax.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
        ax.set_yticks(range(len(named)), list(named))
        ax.set(xlabel="percentage points", title=label.capitalize())
        ax.set_ylim(len(named) - 0.4, -0.75)
        ax.margins(x=0.12)
    return figure


def speed_lines(speeds: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Time to first token (p50, whisker to p95) and throughput over concurrency. `speeds`: model -> runs."""
    figure, (latency, throughput) = panels(2)
    levels = sorted({s["concurrency"] for runs in speeds.values() for s in runs})
    aside = 0.012 * max(1, levels[-1] - levels[0])  # whiskers of two models would lie on each other
    for i, ((name, runs), color) in enumerate(zip(speeds.items(), COLORS, strict=False)):
        at = [s["concurrency"] + aside * (i - (len(speeds) - 1) / 2) for s in runs]
        p50 = [s["ttft_ms"]["p50"] for s in runs]
        # a p95 of too few requests is not printed: no whisker then
        tails = [max(0.0, (s["ttft_ms"].get("p95") or s["ttft_ms"]["p50"]) - s["ttft_ms"]["p50"]) for s in runs]
        whisker = [[0.0] * len(runs), tails]
        latency.errorbar(at, p50, yerr=whisker, marker="o", capsize=4, color=color, label=LABELS.get(name, name))
        throughput.plot(
            [s["concurrency"] for s in runs],
            [s["tokens_per_s"] for s in runs],
            marker="o",
            color=color,
            label=LABELS.get(name, name),
        )
    for ax in (latency, throughput):
        ax.set_xticks(levels)
    latency.set(xlabel="concurrent requests", ylabel="ms, p50 and p95", ylim=(0, None), title="Time to first token")
    most = 1.1 * throughput.get_ylim()[1]
    throughput.set(xlabel="concurrent requests", ylabel="tokens/s, all requests", ylim=(0, most), title="Throughput")
    throughput.legend(frameon=False, labelcolor=INK)
    return figure


def memory_lines(samples: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Resident memory of a server over its time, GB over seconds. `samples`: model -> pairs (seconds, bytes)."""
    figure, (axes,) = panels(1)
    for (name, pairs), color in zip(samples.items(), COLORS, strict=False):
        axes.plot(
            [at for at, _ in pairs], [nbytes / 1e9 for _, nbytes in pairs], color=color, label=LABELS.get(name, name)
        )
    axes.set(
        xlabel="seconds since the start",
        ylabel="GB resident",
        ylim=(0, 1.3 * axes.get_ylim()[1]),
        title="Memory of the server",
    )
    axes.legend(frameon=False, labelcolor=INK)
    return figure


def start_bars(boots: Sequence[tuple[str, Mapping[str, float]]]) -> Figure:
    """Seconds of each start, its steps stacked. `boots`: (label, step -> seconds)."""
    figure, (axes,) = panels(1, height=1.4 + 0.4 * len(boots))
    left = [0.0] * len(boots)
    steps = list(dict.fromkeys(step for _, seconds in boots for step in seconds))
    for i, step in enumerate(steps):
        widths = [seconds.get(step, 0.0) for _, seconds in boots]
        color = COLORS[i % len(COLORS)]
        axes.barh([label for label, _ in boots], widths, left=left, label=step, color=color, height=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="seconds", title="Starts")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG on white; the same figure gives the same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})  # no version inside
    return out.getvalue()


def svg(figure: Figure) -> str:
    """The figure as an SVG element without a background, its ink in the page's colour; the same figure gives the same
    text."""
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "slipway"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue().decode("utf-8")
    return text[text.index("<svg") :].replace(INK, "currentColor").replace('font-family="sans-serif"', "")


def panels(count: int, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """`count` axes side by side, `height` inches, in a figure of its own canvas: no pyplot, no global state, safe in
    any thread."""
    figure = Figure(figsize=(4.6 * count, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, count, i + 1) for i in range(count)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["bottom", "left"]].set_color(INK)
        ax.tick_params(labelsize=8, colors=INK)
        for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
            text.set_color(INK)
    return figure, axes
