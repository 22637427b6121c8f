"""`slipway watch`: does what serves still answer as it did when it was released, and to the same inputs?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, Settings
from slipway.errors import GateError


def watch(
    target: Annotated[str, typer.Argument(help="Row of conf/deploy/.")],
    settings: Settings = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Look at what serves: test rows asked again, captured prompts compared, against the release's own evaluation.

    A bound under its margin is drift: exit code 3, an event `slipway.watch.drift` in Prefect, and a next step. Nothing
    is changed at the target. `cannot tell` is said where too few rows or no captured prompts are there.
    """
    from slipway.cli.flows import run_watch

    run_watch(conf, [f"layers.deploy=deploy/{target}", *(settings or [])], as_json)


def show_watch(document: Mapping[str, Any] | None, as_json: bool) -> int:
    """A look as tables or JSON; the command's exit code. None: a scheduled look before anything was released."""
    if document is None:
        return 0
    from slipway.cli.output import console
    from slipway.report.watch_rows import COLUMNS, next_step, sentence, watch_rows

    if as_json:
        tables.show_json({**document, "summary": sentence(document), "next_step": next_step(document)})
    else:
        shown = [name for name in COLUMNS if any(row[name] for row in watch_rows(document))]
        rows = [[row[name] for name in shown] for row in watch_rows(document)]
        tables.show_columns(_title(document), shown, rows)
        out = console()
        lines = [sentence(document), f"next: {next_step(document)}" if next_step(document) else ""]
        lines += [f"not judged: {name}, {reason}" for name, reason in document["not_judged"].items()]
        for line in filter(None, [*lines, *document["notes"]]):
            out.print(line, highlight=False, markup=False, soft_wrap=True)
    return GateError.exit_code if document["outcome"] == "drift" else 0


def _title(document: Mapping[str, Any]) -> str:
    rows, traffic = document["rows"], document["traffic"]
    left = "".join(f", {count} {reason}" for reason, count in traffic["left_out"].items())
    return (
        f"{document['release']} at {document['target']}, {document['at']}: {rows['answered']} of {rows['asked']} test "
        f"rows answered, {traffic['compared']} of {traffic['captured']} captured prompts compared{left}"
    )
