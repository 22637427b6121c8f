"""What a run did, as tables: stages, quality, speed, gate, links. Reads the summary that the flow leaves as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slipway.cli.progress import human_bytes

OUTCOMES = {"pass": "[green]pass[/]", "fail": "[red]fail[/]", "inconclusive": "[yellow]inconclusive[/]"}


def show_run(summary: dict[str, Any], console: Console) -> None:
    console.print(stage_table(summary["stages"]), "")
    if summary["quality"]:
        console.print(quality_table(summary["quality"]), "")
    if summary["gate"]:
        console.print(gate_table(summary["gate"]), "")
    for name, url in summary["links"].items():
        if url:
            console.print(f"{name:<10}{url}", highlight=False, soft_wrap=True)


def stage_table(stages: list[dict[str, Any]]) -> Table:
    table = _table("stage", "", "seconds", "peak memory", "digest", "why")
    for s in stages:
        memory = human_bytes(s["peak_rss"]) if s["peak_rss"] else ""
        mark = "[cyan]reused[/]" if s["reused"] else "[green]made[/]"
        seconds = f"{s['seconds']:.1f}" if s["seconds"] else ""
        table.add_row(
            s["stage"], mark, seconds, memory, s["digest"][:12], escape(s["why"]) if s["why"] != "made" else ""
        )
    return table


def quality_table(quality: dict[str, Any]) -> Table:
    """Share of test items with the interval; latency and throughput where speed was measured."""
    table = _table("served model", "exact match", "intent accuracy", "TTFT p50", "ITL p50", "tokens/s")
    for name, q in quality.items():
        fast = max(q["speed"], key=lambda s: s["concurrency"], default=None)
        speed = (
            [
                f"{fast['ttft_ms']['p50']:.0f} ms",
                f"{fast['itl_ms']['p50']:.1f} ms",
                f"{fast['tokens_per_s']:.0f} at {fast['concurrency']}",
            ]
            if fast
            else []
        )
        table.add_row(name, share(q["metrics"]["exact_match"]), share(q["metrics"]["intent_accuracy"]), *speed)
    return table


def gate_table(verdict: dict[str, Any]) -> Table:
    table = _table("gate", "outcome", "because")
    for rule in verdict["rules"]:
        table.add_row(f"{rule['rule']} {rule['metric']}", OUTCOMES[rule["outcome"]], escape(rule["reason"]))
    return table


def share(metric: dict[str, float]) -> str:
    """`82.1% (76.0-87.3)`: a share with its confidence interval."""
    return f"{100 * metric['value']:.1f}% ({100 * metric['low']:.1f}-{100 * metric['high']:.1f})"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
