"""A run's quality and verdict as rows of plain values, for the tables of the Prefect UI and the run list of MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.report.gate_cells import rule_cells, rule_figures
from slipway.report.markdown import cell, columns


def quality_rows(quality: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a served model; latency (ms) and tokens/s at the highest concurrency measured, where speed was."""
    rows = []
    titles = columns(served["metrics"] for served in quality.values())
    for name, served in quality.items():
        metrics = served["metrics"]
        row = {"model": name, "items": metrics["n"], **{title: cell(metrics, m) for m, title in titles.items()}}
        if served["speed"]:
            fastest = max(served["speed"], key=lambda speed: speed["concurrency"])
            row |= {
                "TTFT p50, ms": round(fastest["ttft_ms"]["p50"], 1),
                "tokens/s": round(fastest["tokens_per_s"], 1),
                "at": fastest["concurrency"],
            }
        rows.append(row)
    return rows


def gate_rows(verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a rule of the gate: value, interval, threshold, how it came out and why."""
    return [dict(rule_cells(rule)) for rule in verdict["rules"]]


def headline_figures(quality: Mapping[str, Any], verdict: Mapping[str, Any]) -> dict[str, float]:
    """`<model>.<metric>` of everything measured, shares from 0 to 1, `beside.<metric>` of agents and retrieval, and
    `gate.<rule>.<metric>.<against>` of every rule: what a table of runs in MLflow compares."""
    measured = {
        f"{name}.{entry['name']}": entry["value"]
        for name, served in quality.items()
        for entry in served["metrics"]["metrics"]
        if entry["value"] is not None
    }
    entries = verdict.get("beside", ())
    beside = {f"beside.{entry['name']}": entry["value"] for entry in entries if entry["value"] is not None}
    return {**measured, **beside, **rule_figures(verdict)}
