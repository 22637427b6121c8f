"""The command about a target as a machine: its first-time set-up and the undoing."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf


class Action(StrEnum):
    """What to do with the target."""

    set_up = "set-up"


def target(
    action: Annotated[Action, typer.Argument(help="`set-up`: make a machine behind ssh a target.")],
    name: Annotated[str, typer.Argument(help="Row of conf/deploy/ with `kind: spark`.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take all of it back, releases on the target included.")] = False,
    identity: Annotated[
        Path | None,
        typer.Option(help="Your private key for this one login; default: as your ssh is set up.", show_default=False),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            help="SHA256:... of the machine's host key, compared by you; default: your own known_hosts.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Config override, `key=value`.", show_default=False)
    ] = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Make a machine behind ssh a target, or take that back. Each change is printed; run again, it changes nothing.

    One login of yours is used (your ssh config, agent or password); all later ones use a key of their own, which the
    machine takes for Slipway's sessions and copies only.
    """
    from slipway.config.load import load_config
    from slipway.deployment.set_up import set_up_target, undo_target

    assert action is Action.set_up
    config = load_config(conf, [f"layers.deploy=deploy/{name}", *(settings or [])])
    params = config.deploy
    changes: list[str] = []

    def show(line: str) -> None:
        changes.append(line)
        if not as_json:
            typer.echo(line)

    if undo:
        undo_target(params, show, identity=identity)
    else:
        set_up_target(params, show, Path(config.store.root), identity=identity, fingerprint=fingerprint)
    if as_json:
        tables.show_json({"target": params.target, "undone": undo, "changes": changes})
