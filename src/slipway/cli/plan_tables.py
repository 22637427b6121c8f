"""A plan and its errors as people read them: in a terminal, and as rows for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from slipway.cli.output import console
from slipway.cli.progress import duration, human_bytes
from slipway.cli.tables import make_table

if TYPE_CHECKING:
    from slipway.pipeline.ensure import Made

STATES = {"reused": "[cyan]reused[/]", "runs": "[green]runs[/]", "follows": "[yellow]follows[/]"}
CHECK_STATES = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}
WEIGHT = {"fail": 0, "warn": 1, "ok": 2}
MOST_CHANGES = 6


def show_plan(document: dict[str, Any], chosen: list[str]) -> None:
    """A table of the stages, the total, and the target. `chosen`: lines said before it."""
    out = console()
    for line in chosen:
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    table = make_table(document["name"], "", "time", "95% within", "memory", "disk", "why")
    remote = any(stage["machine"] for stage in document["stages"])
    for stage in document["stages"]:
        why = f"on {stage['machine'] or 'this machine'}; {why_of(stage)}" if remote else why_of(stage)
        table.add_row(stage["title"], STATES[stage["state"]], *_figures(stage["estimate"]), escape(why))
    out.print(table, "")
    out.print(_total(document["total"]), highlight=False, soft_wrap=True)
    out.print(_target(document["target"], document["nothing_to_do"]), highlight=False, soft_wrap=True, markup=False)
    if document["serving"]:
        out.print(_serving(document["serving"]), highlight=False, soft_wrap=True)
    if document.get("retrieval"):  # a plan of before had none
        out.print(_retrieval(document["retrieval"]), highlight=False, soft_wrap=True, markup=False)
    for warning in document["warnings"]:
        out.print(warning, highlight=False, soft_wrap=True, markup=False)
    show_preflight(document["preflight"])


def show_preflight(rows: Sequence[Mapping[str, str]]) -> None:
    """What every machine says, failures first; nothing where nothing was asked."""
    table = make_table("preflight", "", "machine", "found", "to do")
    for row in sorted(rows, key=lambda one: WEIGHT[one["status"]]):
        words = (escape(row[name]) for name in ("machine", "found", "advice"))
        table.add_row(escape(row["name"]), CHECK_STATES[row["status"]], *words)
    if rows:
        console().print("", table)


def _figures(estimate: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if not estimate:
        return "", "", "", ""
    figures, bound = estimate["figures"], estimate["bound"]
    peak = human_bytes(figures["peak_bytes"]) if figures["peak_bytes"] else ""
    none_yet = "by formula" if estimate["by"] else f"no bound yet (n={estimate['runs']})"
    within = duration(bound["seconds"]) if bound else none_yet
    took = duration(figures["seconds"]) if figures["seconds"] else ""
    return took, within, peak, human_bytes(figures["disk_bytes"]) if figures["disk_bytes"] else ""


def why_of(stage: Mapping[str, Any]) -> str:
    """Why a stage goes as planned: the reason, the fields of its key that changed, what is sent or brought for it, what
    a killed attempt left."""
    changed = [f"{one['field']}: {one['before']} -> {one['now']}" for one in stage["changes"][:MOST_CHANGES]]
    more = len(stage["changes"]) - MOST_CHANGES
    parts = [stage["why"], *changed, *([f"and {more} more"] if more > 0 else []), *map(_move, stage["moves"])]
    return "; ".join([*filter(None, parts), *(["goes on from a killed attempt"] if stage["resumes"] else [])])


def _move(move: Mapping[str, Any]) -> str:
    size = f", {human_bytes(move['bytes'])}" if move["bytes"] else ""
    return f"brings {move['what']}{size}" if move["to"] == "here" else f"sends {move['what']}{size}"


def _total(total: dict[str, Any]) -> str:
    figures = "no figures yet"
    if total["longest"]:
        figures = f"{duration(total['seconds'])}, {human_bytes(total['disk_bytes'])} written"
    longest = f", most of it {total['longest']}" if total["longest"] else ""
    without = f"; without a figure: {', '.join(total['without_figure'])}" if total["without_figure"] else ""
    moved = f"; {human_bytes(total['moved_bytes'])} over the link" if total["moved_bytes"] else ""
    return f"total     {figures}{longest}{without}{moved}"


def _target(target: dict[str, str], nothing: bool) -> str:
    where = f"target    {target['target']}: "
    if target["unasked"]:
        return f"{where}not asked: {target['unasked']}"
    if nothing:
        return f"{where}{target['release']} serves this engine already: nothing to do"
    serves = f"{target['release']} ({target['line']}) serves" if target["release"] else "nothing serves"
    after = {"replace": "a passing candidate replaces it", "ask": "a person is asked", "keep": "it stays"}
    then = "a passing candidate serves" if not target["release"] else after[target["action"]]
    requests = f"; {target['requests']}" if target["requests"] and target["action"] != "keep" else ""
    return f"{where}{serves}; {then} ({target['reason']}){requests}"


def _serving(forecast: Mapping[str, float]) -> str:
    """What the formulas say of the engine; what they are silent about is left out."""
    sizes = ("weights", "weights"), ("KV cache", "kv_cache"), ("step and program", "compute")
    parts = [f"{title} {human_bytes(forecast[name])}" for title, name in sizes]
    if forecast["tokens_per_s"]:
        parts.append(f"about {forecast['tokens_per_s']:.3g} tokens/s for one request")
    if forecast["first_token_s"]:
        parts.append(f"its first after {forecast['first_token_s']:.2g} s")
    if forecast["start_cold_s"]:
        parts.append(f"start {duration(forecast['start_cold_s'])}, warm {duration(forecast['start_warm_s'])}")
    return f"serving   by formula, a GPU: {', '.join(parts)}"


def _retrieval(forecast: Mapping[str, Any]) -> str:
    """What embedder and index take beside the engine, and all of it where they share the memory."""
    memory = forecast["memory"]
    if memory is None:
        return f"retrieval no figure: {forecast['unknown']}"
    sizes = ("embedder", "embedder"), (f"index of about {memory['chunks']:,} chunks", "index"), ("program", "process")
    parts = ", ".join(f"{title} {human_bytes(memory[name])}" for title, name in sizes)
    total = f"; with the engine {human_bytes(forecast['total'])}" if forecast["engine"] else ""
    return f"retrieval by formula, memory of the CPU: {parts}: {human_bytes(forecast['retrieval'])}{total}"


def show_errors(rows: list[dict[str, Any]], unreadable: int) -> None:
    """Errors of predictions that were made before their stages ran, a row a stage, quantity and machine, with the
    latest prediction beside what was measured then, and the bound that is given for the next one."""
    table = make_table("stage", "quantity", "predicted", "measured", "n", "p50", "p95", "95% bound", "by", "machine")
    for row in rows:
        quantity, shown = row["quantity"].replace("_bytes", ""), human_bytes if "bytes" in row["quantity"] else duration
        pair = (shown(row["predicted"]), shown(row["measured"]))
        figures = (str(row["runs"]), f"{row['p50']:.1%}", f"{row['p95']:.1%}", _error_bound(row))
        summed, made = row["stages"] or (0, 0)
        of = f" ({summed} of {made} stages)" if summed < made else ""
        table.add_row(f"{row['title']}{of}", quantity, *pair, *figures, row["by"] or "runs", escape(row["machine"]))
    out = console()
    out.print(table if rows else "no stage has run here that was predicted before", highlight=False)
    if unreadable:
        out.print(f"{unreadable} lines of the measurements could not be read and were left out")


def _error_bound(row: Mapping[str, Any]) -> str:
    if row["bound"] is not None:
        return f"+{row['bound']:.1%}"
    return "none by formula" if row["by"] else f"no bound yet (n={row['runs']})"


def followed_rows(document: Mapping[str, Any], actual: Mapping[str, Made]) -> list[dict[str, str]]:
    """A row a stage: as planned, and what became of it; stages that nobody planned after the others."""
    rows = {stage["title"]: _planned_row(stage) for stage in document["stages"]}
    for title, made in actual.items():
        took = "reused" if made.reused else f"{duration(made.seconds)}, {human_bytes(made.peak_rss)} memory"
        rows.setdefault(title, _row(title, "not planned", "", ""))["actual"] = took
    return list(rows.values())


def _planned_row(stage: Mapping[str, Any]) -> dict[str, str]:
    figures = stage["estimate"]["figures"] if stage["estimate"] else None
    planned = "" if stage["state"] == "reused" else "no figure"
    if figures:
        planned = f"{duration(figures['seconds'])}, {human_bytes(figures['peak_bytes'])} memory"
    return _row(stage["title"], stage["state"], why_of(stage), planned)


def _row(title: str, state: str, why: str, planned: str) -> dict[str, str]:
    return {"stage": title, "plan": state, "why": why, "planned": planned, "actual": ""}
