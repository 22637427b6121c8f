"""Tables for people and JSON for programs: what the commands show. No decisions here."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from slipway.cli.output import console
from slipway.cli.progress import human_bytes
from slipway.errors import SlipwayError
from slipway.system.redact import mask_exception

if TYPE_CHECKING:  # the help of a command builds no config
    from pydantic import BaseModel
    from rich.console import Console

    from slipway.config.load import Config
    from slipway.ops.doctor import Check
    from slipway.ops.gc import Item
    from slipway.ops.stop import StopReport

MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}
OUTCOMES = {"pass": "[green]pass[/]", "fail": "[red]fail[/]", "inconclusive": "[yellow]inconclusive[/]"}


def show_json(doc: Any) -> None:
    """A document as indented JSON on standard output; what JSON does not know as its text."""
    sys.stdout.write(json.dumps(doc, indent=1, default=str) + "\n")


def error_document(err: SlipwayError) -> dict[str, dict[str, str]]:
    """`{"error": ...}` of an error for programs, secrets masked."""
    mask_exception(err)
    return {"error": err.to_json()}


def show_error(err: SlipwayError) -> None:
    """An error on standard error: what is wrong, what was expected, what to do; secrets masked."""
    mask_exception(err)
    out = console(stderr=True)
    out.print(f"[bold red]{escape(err.thing)}[/]: {escape(str(err.value))}", highlight=False)
    out.print(f"  expected  {escape(err.expected)}", highlight=False)
    out.print(f"  next      {escape(err.next_step)}", highlight=False)


def show_figures(out: Path, figures: dict[str, Any]) -> None:
    """What a pass over a model measured; `out`: the directory that it wrote."""
    table = make_table("figure", "value")
    for name, value in figures.items():
        table.add_row(
            name.replace("_", " "),
            human_bytes(value) if name == "bytes" else f"{value:,.4g}" if isinstance(value, float) else str(value),
        )
    print_titled(console(), str(out), table)


def show_rows(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Pairs of what and value under a title."""
    table = make_table("what", "value")
    for row in rows:
        table.add_row(*map(escape, row))
    print_titled(console(), title, table)


def counted(counts: Mapping[str, int]) -> str:
    """`weights 82, tokenizer 3`: what there is of each kind."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def show_columns(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows of text under a title; nothing where there are none."""
    if not rows:
        return
    table = make_table(*columns)
    for row in rows:
        table.add_row(*(OUTCOMES.get(cell, escape(cell)) for cell in row))
    print_titled(console(), title, table)


def show_config(config: Config) -> None:
    """Every key of a config, its value and what it means."""
    table = make_table("key", "value", "what it is")
    for key, value, description in _fields(config, ""):
        table.add_row(key, escape(str(value)), escape(description))
    console().print(table)


def _fields(model: BaseModel, prefix: str) -> Iterator[tuple[str, Any, str]]:
    from pydantic import BaseModel

    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, field.description or ""


def show_pins(pins: dict[str, dict[str, str]]) -> None:
    """Image, architecture and digest, a row each."""
    table = make_table("image", "architecture", "digest")
    for image, digests in pins.items():
        for arch, digest in digests.items():
            table.add_row(image, arch, digest)
    console().print(table)


def show_checks(checks: Sequence[Check], *, quiet: bool) -> None:
    """The doctor's checks; with `quiet` only those that need attention."""
    shown = [c for c in checks if not quiet or c.status != "ok"]
    if not shown:
        console().print(f"doctor: {len(checks)} checks, all well")
        return
    table = make_table("check", "", "found", "advice")
    for check in shown:
        table.add_row(check.name, MARKS[check.status], escape(check.finding), escape(check.advice))
    console().print(table)


def show_stopped(report: StopReport, target: str) -> None:
    """What `slipway stop` ended: release, pid and URL of each engine, stage and pid of each process; what goes on."""
    out = console()

    def line(text: str) -> None:
        out.print(text, highlight=False, markup=False)

    for engine in report.engines:
        line(f"stopped release {engine.release}: pid {engine.pid}" + (f", {engine.url}" if engine.url else ""))
    for stage in report.stages:
        line(f"stopped stage {stage.name}: pid {stage.pid}; `slipway run` resumes it")
    if not report.engines and not report.stages:
        line(f"nothing ran on target {target}")
    for run in report.at_work:
        line(f"run {run.name} works on: Ctrl-C there, or `kill {run.process.pid}` on {run.host}, ends it")


def show_gc(items: Sequence[Item], *, removed: bool) -> None:
    """What `slipway gc` found in the store: what goes or has gone, what is not ours, and how much stays."""
    out, table = console(), make_table("kind", "name", "size", "why")
    going = [item for item in items if item.action == "remove"]
    for item in going:
        table.add_row(item.what, escape(item.name[:24]), human_bytes(item.bytes), escape(item.why))
    if going:
        out.print(table)
    for item in items:
        if item.action == "unknown":
            out.print(f"[yellow]unknown[/] {escape(str(item.path))}: left as it is", highlight=False, soft_wrap=True)
    size = human_bytes(sum(item.bytes for item in going))
    action = f"removed {len(going)} entries, {size}" if removed else f"{len(going)} entries, {size}, would go"
    out.print(action + ("" if removed or not going else "; `slipway gc --yes` removes them"), highlight=False)


def show_login(pages: Sequence[dict[str, str]]) -> None:
    """Address and credentials of the services' pages."""
    table = make_table("service", "address", "user", "password")
    for page in pages:
        table.add_row(page["name"], page["url"], escape(page["user"]), escape(page["password"]))
    console().print(table)


def show_run(summary: dict[str, Any], out: Console) -> None:
    """What a run did: stages, quality and speed, gate, links; from the summary that the flow leaves as JSON."""
    out.print(stage_table(summary["stages"]), "")
    if summary["quality"]:
        out.print(quality_table(summary["quality"]), "")
    if summary["gate"]:
        out.print(gate_table(summary["gate"]), "")
    if summary.get("kept"):
        out.print(f"[yellow]kept[/] {escape(summary['kept'])}; `slipway explain` says more", highlight=False)
    for name, url in summary["links"].items():
        if url:
            out.print(f"{name:<10}{url}", highlight=False, soft_wrap=True)


def stage_table(stages: list[dict[str, Any]]) -> Table:
    """One row a stage: made or reused, seconds, peak memory, digest, and why it was reused."""
    table = make_table("stage", "", "seconds", "peak memory", "digest", "why")
    for s in stages:
        memory = human_bytes(s["peak_rss"]) if s["peak_rss"] else ""
        mark = "[cyan]reused[/]" if s["reused"] else "[green]made[/]"
        seconds = f"{s['seconds']:.1f}" if s["seconds"] else ""
        table.add_row(
            s["stage"], mark, seconds, memory, s["digest"][:12], escape(s["why"]) if s["why"] != "made" else ""
        )
    return table


def quality_table(quality: dict[str, Any]) -> Table:
    """Every metric with its interval; latency and throughput where speed was measured."""
    from slipway.report.markdown import cell, columns

    titles = columns(q["metrics"] for q in quality.values())
    table = make_table("served model", *titles.values(), "TTFT p50", "ITL p50", "tokens/s")
    for name, q in quality.items():
        fast = max(q["speed"], key=lambda s: s["concurrency"], default=None)
        speed = (
            [
                f"{fast['ttft_ms']['p50']:.0f} ms",
                f"{fast['itl_ms'].get('p50', math.nan):.1f} ms",
                f"{fast['tokens_per_s']:.0f} at {fast['concurrency']}",
            ]
            if fast
            else []
        )
        table.add_row(name, *(cell(q["metrics"], metric) for metric in titles), *speed)
    return table


def gate_table(verdict: dict[str, Any]) -> Table:
    """One row a rule: its value with interval, the threshold, how it came out, why."""
    from slipway.report.gate_cells import COLUMNS, rule_cells

    table = make_table("gate", *COLUMNS[1:])
    for rule in verdict["rules"]:
        cells = rule_cells(rule)
        marked = {name: OUTCOMES[text] if name == "outcome" else escape(text) for name, text in cells.items()}
        table.add_row(*marked.values())
    return table


def print_titled(out: Console, title: str, table: Table) -> None:
    """A table below its title; a title of rich's would be wrapped to the table's width, a path in it broken."""
    out.print(title, style="italic", highlight=False, markup=False, soft_wrap=True)
    out.print(table)


def make_table(*columns: str) -> Table:
    """A table without lines; a cell that is too long for its terminal goes on below, whole."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
