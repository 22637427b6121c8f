"""Commands about decisions: why something serves or was kept, and who holds a target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, Settings

Target = Annotated[str, typer.Argument(help="A row of conf/deploy.", show_default=False)]
Release = Annotated[
    str | None, typer.Option(help="One release, by its name, instead of the whole target.", show_default=False)
]


def explain(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A release (`3` or `0003-3fa9c1d2`) or a target; default: the last run's decision.", show_default=False
        ),
    ] = None,
    settings: Settings = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Print why a release serves, or why the last run replaced or kept what serves: rules, figures, whose word."""
    from slipway.deployment.canary.check_words import check_pairs
    from slipway.deployment.decision.explanation import ROUTE_COLUMNS, RULE_COLUMNS, pairs, route_rows, rule_rows
    from slipway.ops.explain import explained

    explanation = explained(name, conf, settings or [])
    decision = explanation.decision
    if as_json:
        tables.show_json({**decision.document(), **({"checks": explanation.checks} if explanation.checks else {})})
        return
    rows = [*pairs(decision), ("signature", explanation.signature), *check_pairs(explanation.checks)]
    tables.show_rows(f"decision about engine {decision.engine[:12]} for target {decision.target}", rows)
    tables.show_columns("rules of the gate", RULE_COLUMNS, rule_rows(decision))
    tables.show_columns("why this target", ROUTE_COLUMNS, route_rows(decision))


def hold(
    target: Target,
    reason: Annotated[str, typer.Option(help="Why; everybody who is refused reads it.", show_default=False)],
    release: Release = None,
    settings: Settings = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Hold a target: nobody replaces what serves there until `slipway unhold`. A held release is never deleted."""
    from slipway.deployment.decision.holding import hold as set_hold
    from slipway.deployment.decision.incumbent import this_user

    config = _config(target, conf, settings)
    _show(set_hold(config.deploy, release, this_user() or "unknown", reason), target, as_json)


def unhold(
    target: Target,
    release: Release = None,
    settings: Settings = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """Take every hold off a target, or off one release of it."""
    from slipway.deployment.decision.holding import unhold as take_off

    removed, rest = take_off(_config(target, conf, settings).deploy, release)
    if as_json:
        tables.show_json({"removed": removed, "holds": rest})
        return
    typer.echo(f"took off {len(removed)} hold(s)" if removed else "nothing held it")
    _show(rest, target, as_json=False)


def _config(target: str, conf: Path, settings: list[str] | None) -> Any:
    from slipway.config.load import load_config

    return load_config(conf, [f"layers.deploy=deploy/{target}", *(settings or [])])


def _show(holds: list[dict[str, Any]], target: str, as_json: bool) -> None:
    if as_json:
        tables.show_json({"holds": holds})
        return
    rows = [(row["release"] or "the whole target", row["by"], row["since"], row["reason"]) for row in holds]
    tables.show_columns(f"holds of target {target}", ("held", "by", "since", "reason"), rows)
    if not rows:
        typer.echo(f"nobody holds target {target}")
