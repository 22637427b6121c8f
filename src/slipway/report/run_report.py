"""The run report: what a run did, in tables and plots. Markdown, PNG and one HTML page; who publishes them is the
caller's business."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from slipway.config.gate_rows import rows_of
from slipway.evaluation.metric import SHARE
from slipway.evaluation.paired_rules import PAIRED
from slipway.report import markdown, plots
from slipway.report.latency_plots import latency_distributions
from slipway.report.page import html_page
from slipway.report.record import RunRecord
from slipway.report.summary import EFFECTS, summary_table


@dataclass(frozen=True)
class Report:
    """`inline` carries its images as data URIs (Prefect artifacts), `linked` names them as files beside it; `plots` are
    those files; `page` is the same report as one HTML document."""

    inline: str
    linked: str
    plots: dict[str, bytes]
    page: str


def run_report(record: RunRecord) -> Report:
    """The report of one run. Plots without data (no speed measured) are left out."""
    figures = _figures(record)
    images = {f"{name}.png": plots.png(figure) for name, figure in figures.items()}
    inlined = {name: f"data:image/png;base64,{base64.b64encode(data).decode()}" for name, data in images.items()}
    linked = _text(record, {name: name for name in images})
    page = html_page(_title(record), linked, {f"{name}.png": plots.svg(figure) for name, figure in figures.items()})
    return Report(_text(record, inlined), linked, images, page)


def _floors(record: RunRecord) -> dict[str, float]:
    """The gate's floors by metric."""
    return {row.metric: row.number for row in rows_of(record.config.gate) if row.rule == "floor"}


def _figures(record: RunRecord) -> dict[str, Figure]:
    documents, speeds, memory, boots = record.metrics(), record.speeds(), record.memory(), record.boots()
    titles = markdown.columns(documents.values())
    figures = {
        "quality": plots.quality_bars(documents, titles, _floors(record)),
        "loss": plots.loss_curve(record.training(), record.adapter.summary.get("val_loss")),
    }
    if effects := _effects(record.judged):
        figures["effects"] = plots.effect_intervals(effects)
    if intervals := [rule for rule in record.judged["rules"] if rule["rule"] == PAIRED and rule.get("unit") == SHARE]:
        figures["gate"] = plots.rule_intervals(intervals)
    if speeds:
        figures["speed"] = plots.speed_lines(speeds)
    if latency := latency_distributions(speeds):
        figures["latency"] = latency
    if memory:
        figures["memory"] = plots.memory_lines(memory)
    if boots:
        figures["starts"] = plots.start_bars([(markdown.start_name(boots, i), b["steps"]) for i, b in enumerate(boots)])
    return figures


def _effects(judged: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Label of an effect -> metric's title -> difference with its interval, of those that are shares."""
    named = {
        label: {entry["title"]: entry for entry in judged[effect].values() if entry["unit"] == SHARE}
        for effect, label in EFFECTS.items()
    }
    return {label: entries for label, entries in named.items() if entries}


def _title(record: RunRecord) -> str:
    return f"{record.config.line}: gate {record.judged['outcome']}"


def _text(record: RunRecord, images: Mapping[str, str]) -> str:
    def image(name: str) -> str:
        return f"![{name}]({images[f'{name}.png']})\n\n" if f"{name}.png" in images else ""

    judged = record.judged
    changed = f"What changed since the version before: `slipway history {record.verdict.digest[:12]}`."
    starts, beside = markdown.start_table(record), markdown.beside_table(record)
    parts = [
        f"# {_title(record)}\n\n{summary_table(record)}",
        f"## Gate\n\n{markdown.rule_table(record)}\n\n{image('gate')}",
        f"Skipped: {'; '.join(judged['skipped'])}." if judged["skipped"] else "",
        f"## Quality\n\n{markdown.quality_table(record)}\n\n{image('quality')}",
        f"## Agent and retrieval\n\n{beside}" if beside else "",
        f"## What fine-tuning won and quantization cost\n\n{markdown.effect_table(record)}\n\n{image('effects')}",
        f"## Training\n\n{image('loss')}{markdown.pairs(record.adapter.summary)}",
        f"## Speed as served\n\n{image('speed')}{image('latency')}{markdown.speed_table(record)}",
        f"## Memory as served\n\n{image('memory')}" if record.memory() else "",
        f"## Starts\n\n{image('starts')}{starts}" if starts else "",
        f"## Decision\n\n{record.decision}" if record.decision else "",
        f"## Artifacts\n\n{markdown.digest_table(record)}\n\n{changed}",
        markdown.table(("run", ""), record.run.items()),
    ]
    return "\n\n".join(p.strip() for p in parts if p) + "\n"
