"""Tables for people and JSON for programs: what the CLI shows. No decisions here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slipway.cli.progress import human_bytes
from slipway.errors import SlipwayError

if TYPE_CHECKING:  # the help of a command builds no config
    from pydantic import BaseModel

    from slipway.config.load import Config
    from slipway.ops.doctor import Check

MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


def show_json(doc: Any) -> None:
    sys.stdout.write(json.dumps(doc, indent=1, default=str) + "\n")


def show_error(err: SlipwayError, console: Console) -> None:
    console.print(f"[bold red]{escape(err.thing)}[/]: {escape(str(err.value))}", highlight=False)
    console.print(f"  expected  {escape(err.expected)}", highlight=False)
    console.print(f"  next      {escape(err.next_step)}", highlight=False)


def show_figures(out: Path, figures: dict[str, Any]) -> None:
    table = _table("figure", "value", title=str(out))
    for name, value in figures.items():
        table.add_row(
            name.replace("_", " "),
            human_bytes(value) if name == "bytes" else f"{value:,.4g}" if isinstance(value, float) else str(value),
        )
    Console().print(table)


def show_config(config: Config) -> None:
    table = _table("key", "value", "what it is")
    for key, value, description in _fields(config, ""):
        table.add_row(key, escape(str(value)), escape(description))
    Console().print(table)


def _fields(model: BaseModel, prefix: str) -> Iterator[tuple[str, Any, str]]:
    from pydantic import BaseModel

    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, field.description or ""


def show_pins(found: dict[str, dict[str, str]]) -> None:
    table = _table("image", "architecture", "digest")
    for image, digests in found.items():
        for arch, digest in digests.items():
            table.add_row(image, arch, digest)
    Console().print(table)


def show_checks(checks: Sequence[Check], *, quiet: bool) -> None:
    shown = [c for c in checks if not quiet or c.status != "ok"]
    if not shown:
        Console().print(f"doctor: {len(checks)} checks, all well")
        return
    table = _table("check", "", "found", "advice")
    for check in shown:
        table.add_row(check.name, MARKS[check.status], escape(check.found), escape(check.advice))
    Console().print(table)


def show_status(found: dict[str, Any]) -> None:
    console = Console()
    services = _table("service", "address", "state")
    for row in found["services"]:
        services.add_row(row["name"], row["url"], "[green]up[/]" if row["up"] else "[yellow]down: `make up`[/]")
    console.print(services)
    releases = _table("release", "engine", "made", "state", "endpoint", title=f"target {found['target']}")
    for row in found["releases"]:
        releases.add_row(row["name"], row["engine"][:12], row["created"], row["state"], row.get("url") or "")
    console.print(
        releases if found["releases"] else f"target {found['target']}: no release yet; `slipway run` makes one"
    )
    store = _table("artifacts", "count", "size", title=found["store"])
    for kind, row in found["artifacts"].items():
        store.add_row(kind, str(row["count"]), human_bytes(row["bytes"]))
    console.print(store)
    if found["training"]:
        jobs = _table("training", "where", "state", "steps saved")
        for row in found["training"]:
            jobs.add_row(
                row["name"],
                row["where"],
                row["state"] if row["followed"] else f"{row['state']}, unfollowed",
                str(row["saved"]),
            )
        console.print(jobs)
    for left in found["leftovers"]:
        console.print(f"[yellow]left over[/] {escape(left['what'])}: {escape(left['advice'])}", highlight=False)


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
