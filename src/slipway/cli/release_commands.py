"""Commands on the target: promote, roll back, stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, Overrides


def promote(
    verdict: Annotated[
        Path | None,
        typer.Argument(
            help="Verdict artifact; default: the newest of the config's data and model.", show_default=False
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="A row of conf/deploy; default: the config's.", show_default=False)
    ] = None,
    approve: Annotated[
        str, typer.Option("--approve", metavar="REASON", help="Accept an inconclusive gate, and why.")
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Config override, `key=value` or `layers=NAME`.", show_default=False),
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Promote the candidate of a passed verdict to the target; the champion keeps serving if anything fails."""
    from slipway.cli.flows import run_promotion

    chosen = [f"layers.deploy=deploy/{to}"] if to else []
    run_promotion("promote", conf, [*chosen, *(settings or [])], verdict, as_json, approve=approve)


def rollback(overrides: Overrides = None, conf: Conf = Path("conf"), as_json: AsJson = False) -> None:
    """Bring the previous release back: started beside the champion, checked, then switched."""
    from slipway.cli.flows import run_promotion

    run_promotion("rollback", conf, overrides or [], None, as_json)


def stop(overrides: Overrides = None, conf: Conf = Path("conf"), as_json: AsJson = False) -> None:
    """Stop the target's engine, and stages that no run follows. Releases stay: `slipway promote` or `rollback` starts
    one again.
    """
    from slipway.config.load import load_config
    from slipway.ops.stop import stop as stop_all

    config = load_config(conf, overrides or [])
    report = stop_all(config)
    if as_json:
        tables.show_json(report.to_json())
    else:
        tables.show_stopped(report, config.deploy.target)
    if report.error and not as_json:
        raise report.error
    if report.error:
        raise typer.Exit(report.error.exit_code)
