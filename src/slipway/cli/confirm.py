"""The question before a run on a terminal: the plan is shown, a person says yes. Nobody is asked in CI or a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from slipway.cli import plan_tables

if TYPE_CHECKING:
    from slipway.ops.chain.plan import Plan

DECLINED = 130  # as a person's Ctrl-C


def is_person() -> bool:
    """Whether somebody sits at a terminal: input and output are one, and no CI says that it is one (`CI`)."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not os.environ.get("CI")


def confirm_run(conf: Path, overrides: Sequence[str]) -> None:
    """Show what the run would do and ask. Raises what `confirm` and `slipway plan` raise."""
    from slipway.config.load import load_config
    from slipway.ops.chain import plan as planned

    config, chosen = planned.as_run(load_config(conf, overrides))
    confirm(planned.plan(config, Path.cwd()), chosen)


def confirm(made: Plan, chosen: list[str]) -> None:
    """Show a plan and ask; nothing is asked where it would do nothing. `chosen`: lines that say by what an engine was
    chosen. Raises ResourceError where the preflight fails, Exit where the answer is no."""
    from slipway.ops.preflight.finding import require_ready

    plan_tables.show_plan(made.to_json(), chosen)
    require_ready(made.preflight)
    if not made.nothing_to_do and not typer.confirm("Run it?"):
        typer.echo("nothing was started; `slipway plan --out FILE` saves a plan, `slipway run --yes` does not ask")
        raise typer.Exit(DECLINED)
