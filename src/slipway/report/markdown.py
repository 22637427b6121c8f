"""Tables of a run as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slipway.report.record import RunRecord

METRICS = ("exact_match", "intent_accuracy")
SERVED = {
    "base": "base",
    "merged": "fine-tuned, unquantized",
    "candidate": "fine-tuned, quantized (shipped)",
    "champion": "champion before",
}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; cells may hold anything. "None." when there is no row."""
    lines = [f"| {' | '.join(_cell(c) for c in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(header)} |", "|" + "---|" * len(header), *lines]) if lines else "None."


def pairs(values: Mapping[str, Any]) -> str:
    """Names and values, nested ones flattened to `a.b`."""
    return table(("figure", "value"), _flat(values))


def share(m: Mapping[str, float]) -> str:
    """A share of items with its interval, percent."""
    return f"{100 * m['value']:.1f} % ({100 * m['low']:.1f} to {100 * m['high']:.1f})"


def change(m: Mapping[str, float]) -> str:
    """A difference of shares with its interval, percentage points."""
    return f"{100 * m['value']:+.1f} ({100 * m['low']:+.1f} to {100 * m['high']:+.1f})"


def quality_table(record: RunRecord) -> str:
    """Quality of each served model, with intervals, as a Markdown table."""
    rows = [(SERVED.get(n, n), m["n"], *(share(m[k]) for k in METRICS)) for n, m in record.metrics().items()]
    return table(("served model", "items", "exact match", "intent accuracy"), rows)


def effect_table(record: RunRecord) -> str:
    """What fine-tuning won and what quantization cost, percentage points, paired on the same items."""
    names = {"finetuning_gain": "won by fine-tuning", "quantization_cost": "lost to quantization"}
    return table(
        ("percentage points", "exact match", "intent accuracy"),
        [(n, *(change(record.judged[k][m]) for m in METRICS)) for k, n in names.items()],
    )


def speed_table(record: RunRecord) -> str:
    """Latencies and rates of each served model at each concurrency, as a Markdown table."""
    header = ("served model", "concurrency", "TTFT p50 / p95, ms", "ITL p50 / p95, ms", "tokens/s", "requests/s")
    rows = [
        (
            SERVED.get(name, name),
            s["concurrency"],
            *(f"{s[k]['p50']:.1f} / {s[k]['p95']:.1f}" for k in ("ttft_ms", "itl_ms")),
            f"{s['tokens_per_s']:.1f}",
            f"{s['requests_per_s']:.2f}",
        )
        for name, runs in record.speeds().items()
        for s in runs
    ]
    return table(header, rows)


def rule_table(record: RunRecord) -> str:
    """Every rule of the gate with its outcome and reason, as a Markdown table."""
    rows = [(r["rule"], r["metric"], r["against"], r["outcome"], r["reason"]) for r in record.judged["rules"]]
    return table(("rule", "metric", "against", "outcome", "because"), rows)


def digest_table(record: RunRecord) -> str:
    """Every artifact that the engine was made from with its digest, as a Markdown table."""
    rows = [(a.role, a.kind, a.stage, f"`{a.digest}`") for a in record.ancestors]
    return table(("artifact", "kind", "made by", "sha256"), rows)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return rows


def _cell(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
