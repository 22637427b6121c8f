"""The command that promotes; it runs the flow, with its record in Prefect and MLflow.

Short because what needs no service is in `serving_commands.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.options import AsJson, Conf, Settings, VerdictName


def promote(
    verdict: VerdictName = None,
    to: Annotated[
        str | None, typer.Option("--to", help="A row of conf/deploy; default: the config's.", show_default=False)
    ] = None,
    approve: Annotated[
        str, typer.Option("--approve", metavar="REASON", help="Accept an inconclusive gate, and why.")
    ] = "",
    settings: Settings = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Promote the candidate of a passed verdict to the target; the champion keeps serving if anything fails."""
    from slipway.cli.flows import run_promotion

    chosen = [f"layers.deploy=deploy/{to}"] if to else []
    run_promotion("promote", conf, [*chosen, *(settings or [])], verdict, as_json, approve=approve)
