"""Tables of a run as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slipway.evaluation.metric import SHARE
from slipway.report.gate_cells import COLUMNS, rule_cells
from slipway.report.record import RunRecord

SPEED_COLUMNS = (
    "concurrency",
    "n",
    "errors",
    "TTFT p50 / p95 / p99, ms",
    "ITL p50 / p95 / p99, ms",
    "tokens/s",
    "requests/s",
)
SERVED = {
    "base": "base",
    "merged": "fine-tuned, unquantized",
    "candidate": "fine-tuned, quantized (shipped)",
    "champion": "champion before",
    "best": "best release of the line",
}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; cells may hold anything. "None." when there is no row."""
    lines = [f"| {' | '.join(_cell(c) for c in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(header)} |", "|" + "---|" * len(header), *lines]) if lines else "None."


def pairs(values: Mapping[str, Any]) -> str:
    """Names and values, nested ones flattened to `a.b`."""
    return table(("figure", "value"), _flat(values))


def columns(documents: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Name -> title of every metric that any of these `metrics.json` documents has, in their order."""
    return {entry["name"]: entry["title"] for doc in documents for entry in doc["metrics"]}


def cell(doc: Mapping[str, Any], name: str) -> str:
    """The value of a metric in `metrics.json` with its interval; empty where it was not measured."""
    return next((estimate(entry) for entry in doc["metrics"] if entry["name"] == name), "")


def estimate(entry: Mapping[str, Any], *, signed: bool = False) -> str:
    """A value with its interval in its unit: shares as percent (differences, which are signed, as points), others with
    four digits; empty without a value."""
    if entry["value"] is None:
        return ""
    sign, percent = "+" if signed else "", entry["unit"] == SHARE
    text, low, high = (
        "" if v is None else f"{100 * v:{sign}.1f}" if percent else f"{v:{sign}.4g}"
        for v in (entry["value"], entry["low"], entry["high"])
    )
    unit = ("" if signed else " %") if percent else f" {entry['unit']}".rstrip()
    return f"{text}{unit} ({low} to {high})" if low or high else f"{text}{unit}"


def quality_table(record: RunRecord) -> str:
    """Quality of each served model, with intervals, as a Markdown table."""
    documents = record.metrics()
    titles = columns(documents.values())
    rows = [(SERVED.get(n, n), doc["n"], *(cell(doc, name) for name in titles)) for n, doc in documents.items()]
    return table(("served model", "items", *titles.values()), rows)


def beside_table(record: RunRecord) -> str:
    """What was evaluated beside the model's own answers, agents and retrieval, with intervals; empty without any."""
    rows = [(e["name"], e["title"], e["n"], estimate(e)) for e in record.judged.get("beside", ())]
    return table(("metric", "of", "items", "value"), rows) if rows else ""


def effect_table(record: RunRecord) -> str:
    """What fine-tuning won and what quantization cost, paired on the same items: shares in percentage points, others in
    their unit, positive is better for the one, worse for the other."""
    effects = {
        "won by fine-tuning": record.judged["finetuning_gain"],
        "lost to quantization": record.judged["quantization_cost"],
    }
    titles = {name: d["title"] for effect in effects.values() for name, d in effect.items()}
    rows = [
        (label, *(estimate(effect[name], signed=True) if name in effect else "" for name in titles))
        for label, effect in effects.items()
        if effect  # a base that was not served has nothing to be better than
    ]
    return table(("paired difference", *titles.values()), rows)


def speed_table(record: RunRecord) -> str:
    """Latencies and rates of each served model at each concurrency, as a Markdown table."""
    rows = [(SERVED.get(name, name), *speed_cells(run)) for name, runs in record.speeds().items() for run in runs]
    return table(("served model", *SPEED_COLUMNS), rows)


def speed_cells(run: Mapping[str, Any]) -> list[str]:
    """One speed run's cells under `SPEED_COLUMNS`. A percentile that its requests are too few for is a dash: a p95
    needs 100, a p99 300."""
    latencies = (
        " / ".join(f"{run[name][p]:.1f}" if run[name].get(p) is not None else "-" for p in ("p50", "p95", "p99"))
        for name in ("ttft_ms", "itl_ms")
    )
    n, errors = run["requests"], run.get("errors", 0)
    rates = f"{run['tokens_per_s']:.1f}", f"{run['requests_per_s']:.2f}"
    return [str(run["concurrency"]), str(n), str(errors), *latencies, *rates]


def start_table(record: RunRecord) -> str:
    """Seconds of every measured start of the shipped engine, of its steps and of the first answer after it, and its
    speed; empty when none was measured."""
    boots = record.boots()
    if not boots:
        return ""
    steps = list(dict.fromkeys(step for boot in boots for step in boot["steps"]))
    rows = [
        (
            start_name(boots, i),
            f"{boot['ready_s']:.2f}",
            *(f"{boot['steps'].get(step, 0.0):.2f}" for step in steps),
            f"{boot['first_answer_s']:.2f}",
            f"{boot['tokens_per_s']:.1f}",
        )
        for i, boot in enumerate(boots)
    ]
    return table(("start", "ready, s", *(f"{step}, s" for step in steps), "first answer, s", "tokens/s"), rows)


def start_name(boots: Sequence[Mapping[str, Any]], at: int) -> str:
    """`cold`, `warm`, or with a number where there are several of the kind."""
    kinds = [boot["start"] for boot in boots]
    return kinds[at] if kinds.count(kinds[at]) == 1 else f"{kinds[at]} {kinds[: at + 1].count(kinds[at])}"


def rule_table(record: RunRecord) -> str:
    """Every rule of the gate with value, interval, threshold, outcome and reason, as a Markdown table."""
    return table(COLUMNS, [tuple(rule_cells(rule).values()) for rule in record.judged["rules"]])


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
