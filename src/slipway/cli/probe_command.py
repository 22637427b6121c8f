"""`slipway probe`: what a machine's GPUs give. Short because a command parses and shows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, Settings


def probe(
    name: Annotated[str, typer.Argument(help="Row of conf/targets/ with a GPU.")],
    settings: Settings = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Measure how much memory a program gets of a machine's GPU, and write it into the machine's row (`usable_gb`).

    The machine is reached as conf/deploy/NAME.yaml says; without such a row it is this one. All memory of the GPU is
    taken for some seconds, on unified memory down to `guard.available_gb`: nothing else should run there.
    """
    from slipway.ops.machine_row import probe_machine

    probed = probe_machine(conf, name, settings or [])
    if as_json:
        tables.show_json(asdict(probed))
        return
    typer.echo(f"{name}: {probed.usable_gb:g} GB of a GPU ({probed.stopped}); {probed.before_gb:g} were planned with")
    typer.echo(f"written to {probed.file}: commit it")
