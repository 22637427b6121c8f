"""`slipway plan`: what a run would reuse, make and replace, before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli import plan_tables, tables
from slipway.cli.options import AsJson, Assume, Conf, Overrides
from slipway.errors import SlipwayError

NOTHING_TO_DO, ERROR, CHANGES = 0, 1, 2  # exit codes of --detailed-exitcode, as `terraform plan` has them


def plan(
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Save the plan for `slipway run FILE`.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Errors of earlier predictions in this store.")] = False,
    detailed_exitcode: Annotated[
        bool,
        typer.Option("--detailed-exitcode", help="Exit 0: nothing to do, 2: changes, 1: error. For cron and CI."),
    ] = False,
    assume: Assume = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Show what `slipway run` with these overrides would reuse and make, why, what it takes, and what it replaces.

    Starts nothing: reads the store, the config, `dvc.lock` and what each machine says of itself. Figures are of earlier
    runs on that machine. With --detailed-exitcode a preflight that fails is an error.
    """
    words = [*(overrides or []), *([f"model.assume={assume}"] if assume else [])]
    try:
        code = _errors(conf, words, as_json) if errors else _plan(conf, words, out, as_json)
    except SlipwayError as err:
        if not detailed_exitcode:
            raise
        typer.echo(f"error: {err}", err=True)
        raise typer.Exit(ERROR) from err
    if detailed_exitcode:
        raise typer.Exit(code)


def _plan(conf: Path, overrides: list[str], out: Path | None, as_json: bool) -> int:
    from slipway.config.load import load_config
    from slipway.ops.chain import plan as planned

    root = Path.cwd()
    config, chosen = planned.as_run(load_config(conf, overrides))
    made = planned.plan(config, root)
    document = made.to_json()
    if out:
        planned.save(made, config, root, conf, overrides, out)
    if as_json:
        tables.show_json(document)
    else:
        plan_tables.show_plan(document, chosen)
        if out:
            typer.echo(f"saved; `slipway run {out}` runs it")
    if any(row.status == "fail" for row in made.preflight):
        return ERROR
    return NOTHING_TO_DO if made.nothing_to_do else CHANGES


def _errors(conf: Path, overrides: list[str], as_json: bool) -> int:
    from dataclasses import asdict

    from slipway.config.load import load_config
    from slipway.ops.chain.estimates import errors
    from slipway.pipeline.measurements import read_measurements

    record = read_measurements(Path(load_config(conf, overrides).store.root))
    rows = [asdict(error) for error in errors(record.rows)]
    if as_json:
        tables.show_json({"errors": rows, "unreadable": record.unreadable})
    else:
        plan_tables.show_errors(rows, record.unreadable)
    return NOTHING_TO_DO
