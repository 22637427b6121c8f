"""`slipway status` as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from slipway.cli.output import console
from slipway.cli.progress import duration, human_bytes
from slipway.cli.tables import make_table, print_titled

if TYPE_CHECKING:
    from rich.console import Console


def show_status(status: dict[str, Any]) -> None:
    """The document of `slipway status` as tables: services, releases, store, training, who has this machine, what is
    left over."""
    out = console()
    services = make_table("service", "address", "state")
    for row in status["services"]:
        services.add_row(row["name"], row["url"], "[green]up[/]" if row["up"] else "[yellow]down: `make up`[/]")
    out.print(services)
    with_index = any(row["index"] for row in status["releases"])
    releases = make_table("release", "engine", *(["index"] if with_index else []), "made", "state", "endpoint")
    for row in status["releases"]:
        index = [row["index"][:12] or "none"] if with_index else []
        releases.add_row(row["name"], row["engine"][:12], *index, row["created"], row["state"], row.get("url") or "")
    if status["releases"]:
        print_titled(out, f"target {status['target']}: {status['clients']}", releases)
    else:
        out.print(f"target {status['target']}: {status['clients']}", highlight=False)
    _show_holds(status, out)
    store = make_table("artifacts", "count", "size")
    for kind, row in status["artifacts"].items():
        store.add_row(kind, str(row["count"]), human_bytes(row["bytes"]))
    print_titled(out, status["store"], store)
    if status["freeable"]["count"]:
        going = status["freeable"]
        out.print(f"`slipway gc` would free {human_bytes(going['bytes'])} in {going['count']} entries", highlight=False)
    if status["training"]:
        jobs = make_table("training", "where", "state", "steps saved")
        for row in status["training"]:
            state = row["state"] if row["followed"] else f"{row['state']}, unfollowed"
            jobs.add_row(row["name"], row["where"], state, str(row["saved"]))
        out.print(jobs)
    _show_work(status, out)
    _show_machine(status["machine"], out)
    for row in status["served"]:
        where = f"on port {row['port']}" if row["port"] else "starting"
        out.print(f"`slipway serve` {escape(row['directory'])}: {where}", highlight=False)
    for leftover in status["leftovers"]:
        out.print(f"[yellow]left over[/] {escape(leftover['what'])}: {escape(leftover['advice'])}", highlight=False)


def _show_holds(status: dict[str, Any], out: Console) -> None:
    """Who holds the target or a release of it, and where MLflow's alias names something else than serves."""
    for hold in status["holds"]:
        what, since = hold["release"] or f"target {status['target']}", f"by {hold['by']} since {hold['since']}"
        out.print(f"[yellow]held[/] {escape(what)} {escape(since)}: {escape(hold['reason'])}", highlight=False)
    if status["mirror"]["sentence"]:
        out.print(f"[yellow]alias[/] {escape(status['mirror']['sentence'])}", highlight=False)


def _show_work(status: dict[str, Any], out: Console) -> None:
    """Runs of flows and the stage processes of this store."""
    if status["runs"]:
        runs = make_table("run", "pid", "host", "started", "state")
        for row in status["runs"]:
            note = "" if row["state"] == "running" else ": the next run closes it in MLflow and Prefect"
            runs.add_row(escape(row["name"]), str(row["pid"]), row["host"], row["started"], f"{row['state']}{note}")
        out.print(runs)
    if status["stages"]:
        stages = make_table("stage process", "pid", "followed")
        for row in status["stages"]:
            stages.add_row(row["name"], str(row["pid"]), "yes" if row["followed"] else "[yellow]no[/]")
        out.print(stages)


def _show_machine(machine: dict[str, Any], out: Console) -> None:
    """Who works on this machine under its lease, and who waits for it in which order."""
    if machine["problem"]:
        text = f"who works on {machine['host']} cannot be read: {machine['problem']}"
        out.print(f"[yellow]lease[/] {escape(text)}", highlight=False, soft_wrap=True)
    held = machine["holder"]
    if not held and not machine["waiting"]:
        return
    table = make_table(f"machine {machine['host']}", "priority", "pid", "", "since")
    if held:
        state = "works" if held["followed"] else "[yellow]its run is gone: `slipway run` takes it up, `stop` ends it[/]"
        table.add_row(escape(held["name"]), held["priority"], str(held["pid"]), state, duration(held["seconds"]))
    for wish in machine["waiting"]:
        row = (escape(wish["name"]), wish["priority"], str(wish["pid"]), "waits", duration(wish["seconds"]))
        table.add_row(*row)
    out.print(table)
