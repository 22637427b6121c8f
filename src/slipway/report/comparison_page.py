"""Two versions on one HTML page: what `slipway compare` says in tables, and both drawn in the same plots."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from slipway.evaluation.comparison import Side
from slipway.report import markdown, plots
from slipway.report.latency_plots import latency_distributions
from slipway.report.page import html_page

FIGURES = {
    "tokens_per_s": "tokens/s",
    **{f"{key}_ms_{p}": f"{key.upper()} {p}, ms" for key in ("ttft", "itl") for p in ("p50", "p95")},
}


def comparison_page(a: Side, b: Side, document: dict[str, Any]) -> str:
    """A whole HTML document of `compare(a, b)`; plots only of what both sides measured."""
    drawn = {}
    if a.quality and b.quality:
        metrics = {"A": a.quality.metrics, "B": b.quality.metrics}
        drawn["quality.png"] = plots.svg(plots.quality_bars(metrics, markdown.columns(metrics.values()), {}))
    if document["speed"]:
        common = [row["concurrency"] for row in document["speed"]]
        runs = {"A": [a.speed[callers] for callers in common], "B": [b.speed[callers] for callers in common]}
        drawn["speed.png"] = plots.svg(plots.speed_lines(runs))
        if latency := latency_distributions(runs):
            drawn["latency.png"] = plots.svg(latency)
    if a.memory and b.memory:
        drawn["memory.png"] = plots.svg(plots.memory_lines({"A": a.memory, "B": b.memory}))
    return html_page("B against A", _text(document, set(drawn)), drawn)


def _text(document: dict[str, Any], drawn: Collection[str]) -> str:
    parts = ["# B against A", markdown.table(("", "measurement"), [("A", document["a"]), ("B", document["b"])])]
    if document["quality"]:
        level = f"{100 * document['confidence']:.4g}"
        rows = [
            (entry["title"], markdown.estimate(entry, signed=True), f"{entry['p']:.3g}", entry["n"])
            for entry in document["quality"].values()
        ]
        header = ("metric", f"B better by ({level}% interval)", "p", "items in pairs")
        parts += ["## Quality", markdown.table(header, rows), "![quality](quality.png)"]
    if document["speed"]:
        figures = [
            (row["concurrency"], FIGURES.get(name, name.replace("_", " ")), f"{f['a']:.1f}", f"{f['b']:.1f}", _ratio(f))
            for row in document["speed"]
            for name, f in row["figures"].items()
        ]
        parts += ["## Speed", markdown.table(("callers", "figure", "A", "B", "B / A"), figures), "![speed](speed.png)"]
        parts += ["![latency](latency.png)"] if "latency.png" in drawn else []
    parts += ["## Memory of the server", "![memory](memory.png)"] if "memory.png" in drawn else []
    if document["left_out"]:
        parts += ["## Left out", "\n".join(f"- {line}" for line in document["left_out"])]
    return "\n\n".join(parts) + "\n"


def _ratio(figure: dict[str, Any]) -> str:
    return "" if figure["ratio"] is None else f"{figure['ratio']:.3f}"
