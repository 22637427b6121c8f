"""The first thing that a report says: the verdict and its main figures, a row each."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from slipway.evaluation.metric import SHARE, entries
from slipway.report import markdown
from slipway.report.record import RunRecord

EFFECTS = {"finetuning_gain": "won by fine-tuning", "quantization_cost": "lost to quantization"}


def summary_table(record: RunRecord) -> str:
    """Of the shipped model: the gate's outcome, the first metric with its interval, what fine-tuning won and
    quantization cost of it, bits a weight, speed at the most callers, starts. What was not measured has no row."""
    figures = {"gate": str(record.judged["outcome"]), **_quality(record), **_speed(record), **_starts(record)}
    return markdown.table(("shipped", ""), figures.items())


def _quality(record: RunRecord) -> dict[str, str]:
    document = record.metrics()["candidate"]
    name, entry = next(iter(entries(document).items()), ("", None))
    if entry is None:
        return {}
    figures = {str(entry["title"]): markdown.estimate(entry)}
    for effect, label in EFFECTS.items():
        if name in record.judged[effect]:
            unit = ", points" if entry["unit"] == SHARE else ""
            figures[f"{label}{unit}"] = markdown.estimate(record.judged[effect][name], signed=True)
    bits = record.summary("quantize").get("bits_per_parameter")
    return figures | ({"bits a weight": f"{bits:.2f}"} if bits else {})


def _speed(record: RunRecord) -> dict[str, str]:
    runs = record.speeds().get("candidate")
    if not runs:
        return {}
    run: Mapping[str, Any] = max(runs, key=lambda one: one["concurrency"])
    callers = f"{run['concurrency']} caller{'s' * (run['concurrency'] > 1)}"
    tail = next((p for p in ("p95", "p50") if run["ttft_ms"].get(p) is not None), None)
    figures = {f"tokens/s, {callers}": f"{run['tokens_per_s']:,.0f}"}
    return figures | ({f"first token {tail}": f"{run['ttft_ms'][tail]:,.0f} ms"} if tail else {})


def _starts(record: RunRecord) -> dict[str, str]:
    """Median seconds until it answers, cold and warm."""
    boots = record.boots()
    seconds = {kind: [boot["ready_s"] for boot in boots if boot["start"] == kind] for kind in ("cold", "warm")}
    return {f"{kind} start": f"{median(times):.1f} s" for kind, times in seconds.items() if times}
