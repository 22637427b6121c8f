"""The run report: what a run did, in tables and three plots. Text and PNG bytes; who publishes them is the caller's
business."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from slipway.evaluation.metric import SHARE, entries
from slipway.report import markdown
from slipway.report.record import RunRecord

DPI = 80  # a plot stays near 20 KB, so that a UI artifact can carry it inline
PANELS = 3  # metrics that a plot shows; the tables have all
BLUE, ORANGE, GREY = "#2f6fb0", "#d9822b", "#8a8f98"
LABELS = {"base": "base", "merged": "fine-tuned", "candidate": "quantized", "champion": "champion"}


@dataclass(frozen=True)
class Report:
    """`inline` carries its images as data URIs (Prefect artifacts), `linked` names them as files beside it; `plots` are
    those files."""

    inline: str
    linked: str
    plots: dict[str, bytes]


def run_report(record: RunRecord) -> Report:
    """The report of one run. Plots without data (no speed measured) are left out."""
    plots = {"loss.png": loss_curve(record), "quality.png": quality_bars(record)}
    if record.speeds():
        plots["speed.png"] = speed_lines(record)
    inlined = {name: f"data:image/png;base64,{base64.b64encode(png).decode()}" for name, png in plots.items()}
    return Report(_text(record, inlined), _text(record, {name: name for name in plots}), plots)


def loss_curve(record: RunRecord) -> bytes:
    """Training loss per optimizer step, PNG."""
    steps = record.training()
    figure, axes = _figure(1)
    axes[0].plot([s["step"] for s in steps], [s["loss"] for s in steps], color=BLUE, linewidth=1.2)
    if (held_out := record.adapter.summary.get("val_loss")) is not None:
        axes[0].axhline(
            held_out, color=ORANGE, linestyle="--", linewidth=1, label=f"validation, at the end: {held_out:.3f}"
        )
        axes[0].legend(frameon=False)
    axes[0].set(xlabel="optimizer step", ylabel="loss, nats per completion token", ylim=(0, None), title="Training")
    return _png(figure)


def quality_bars(record: RunRecord) -> bytes:
    """The first metrics of every served model with their intervals, and the gate's floors, PNG."""
    documents, floors = record.metrics(), record.config.gate.floors
    titles = list(markdown.columns(documents.values()).items())[:PANELS]
    figure, axes = _figure(max(1, len(titles)))
    for ax, (name, title) in zip(axes, titles, strict=False):
        measured = {model: entries(doc)[name] for model, doc in documents.items() if name in entries(doc)}
        _bars(ax, {model: entry for model, entry in measured.items() if entry["value"] is not None}, title)
        if name in floors:
            scale = 100 if next(iter(measured.values()))["unit"] == SHARE else 1
            ax.axhline(scale * floors[name], color=ORANGE, linestyle="--", linewidth=1, label="gate's floor")
            ax.legend(frameon=False, loc="upper left")
    return _png(figure)


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
    ax.bar([LABELS.get(n, n) for n in measured], values, yerr=errors, color=BLUE, ecolor=GREY, capsize=4, width=0.6)
    ax.set(ylim=(0, 105) if unit == SHARE else None, ylabel=label, title=title)


def speed_lines(record: RunRecord) -> bytes:
    """Time to first token (p50, whisker to p95) and throughput over concurrency, PNG."""
    figure, (latency, throughput) = _figure(2)
    for (name, runs), color in zip(record.speeds().items(), (BLUE, ORANGE, GREY, "black"), strict=False):
        at = [s["concurrency"] for s in runs]
        p50, p95 = ([s["ttft_ms"][p] for s in runs] for p in ("p50", "p95"))
        whisker = [[0.0] * len(runs), [max(0.0, b - a) for a, b in zip(p50, p95, strict=True)]]
        latency.errorbar(at, p50, yerr=whisker, marker="o", capsize=4, color=color, label=LABELS.get(name, name))
        throughput.plot(at, [s["tokens_per_s"] for s in runs], marker="o", color=color, label=LABELS.get(name, name))
        for ax in (latency, throughput):
            ax.set_xticks(at)
    latency.set(xlabel="concurrent requests", ylabel="ms, p50 and p95", ylim=(0, None), title="time to first token")
    throughput.set(xlabel="concurrent requests", ylabel="tokens/s, all requests", ylim=(0, None), title="throughput")
    throughput.legend(frameon=False)
    return _png(figure)


def _text(record: RunRecord, images: Mapping[str, str]) -> str:
    def image(name: str) -> str:
        return f"![{name.removesuffix('.png')}]({images[name]})\n\n" if name in images else ""

    judged = record.judged
    parts = [
        f"# {record.config.line}: gate {judged['outcome']}",
        markdown.rule_table(record),
        f"Skipped: {'; '.join(judged['skipped'])}." if judged["skipped"] else "",
        f"## Quality\n\n{markdown.quality_table(record)}\n\n{markdown.effect_table(record)}\n\n{image('quality.png')}",
        f"## Training\n\n{image('loss.png')}{markdown.pairs(record.adapter.summary)}",
        f"## Speed as served\n\n{image('speed.png')}{markdown.speed_table(record)}",
        f"## Artifacts\n\n{markdown.digest_table(record)}",
        markdown.table(("run", ""), record.run.items()),
    ]
    return "\n\n".join(p.strip() for p in parts if p) + "\n"


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    """A figure of its own canvas: no pyplot, no global state, safe in any thread."""
    figure = Figure(figsize=(4.6 * panels, 3.2), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return figure, axes


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})  # no version inside: same figures, same bytes
    return out.getvalue()
