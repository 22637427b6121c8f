"""`slipway history`: which versions were judged, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, Settings

if TYPE_CHECKING:
    from slipway.ops.history import Difference, Version

COLUMNS = ("made", "verdict", "line", "gate", "data", "quality", "released")
Named = Annotated[
    list[str] | None,
    typer.Argument(
        help="One version (against the one before it in its line) or two, by the first digits of verdict or engine; "
        "default: the list.",
        show_default=False,
    ),
]
_MOST = 2  # versions that are compared


def history(
    versions: Named = None,
    settings: Settings = None,
    conf: Conf = Path("conf"),
    as_json: AsJson = False,
) -> None:
    """List the versions that were judged here, or show what changed between two: data, config, code, quality."""
    from slipway.config.load import load_config
    from slipway.ops import history as past

    config = load_config(conf, settings or [])
    judged, damaged = past.versions(Path(config.store.root))
    if versions:
        pair = _pair(versions, judged)
        _show_difference(past.difference(*pair), as_json)
        return
    released, silent = _released(judged, config.deploy)
    if as_json:
        tables.show_json(
            {
                "versions": [{**_document(v), "released": released.get(v.verdict, [])} for v in judged],
                "unreadable": damaged,
                "target": silent,
            }
        )
        return
    tables.show_columns("versions, oldest first", COLUMNS, [_row(v, released) for v in judged])
    if not judged:
        typer.echo(f"{config.store.root} holds no verdict yet; `slipway run` makes one")
    if damaged:
        typer.echo(f"{damaged} verdict(s) cannot be read and are left out; `slipway gc` names them")
    if silent:
        typer.echo(silent)


def _pair(names: Sequence[str], judged: Sequence[Version]) -> tuple[Version, Version]:
    """The versions to compare, the earlier one first as they were named. Raises ConfigError for more than two names,
    StateError for a version that is not there or has none before it."""
    from slipway.errors import ConfigError, StateError
    from slipway.ops import history as past

    if len(names) > _MOST:
        raise ConfigError("arguments of history", f"{len(names)} versions", "one or two", "leave the others out")
    chosen = [past.named(name, judged) for name in names]
    if len(chosen) == _MOST:
        return chosen[0], chosen[1]
    earlier = past.before(chosen[0], judged)
    if earlier is None:
        what = f"version {chosen[0].verdict[:12]}"
        raise StateError(
            what, f"the first of line {chosen[0].line}", "one before it", "name two: `slipway history A B`"
        )
    return earlier, chosen[0]


def _released(judged: Sequence[Version], params: Any) -> tuple[dict[str, list[str]], str]:
    """Releases by verdict, and what is said where the target cannot be asked."""
    from slipway.errors import SlipwayError
    from slipway.ops.history import releases_of

    try:
        return {v.verdict: releases_of(v, params) for v in judged}, ""
    except SlipwayError as err:
        return {}, f"which of them serve at {params.target} is not known: {err}"


def _row(version: Version, released: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    trained = f", {version.rows['train']:,} rows" if "train" in version.rows else ""
    return (
        version.made,
        version.verdict[:12],
        version.line,
        version.outcome,
        f"{version.data[:8] or '?'}{trained}",
        "  ".join(f"{name} {value:.3f}" for name, value in list(version.quality.items())[:2]),
        ", ".join(released.get(version.verdict, [])) or "-",
    )


def _show_difference(differs: Difference, as_json: bool) -> None:
    if as_json:
        tables.show_json(
            {
                "before": _document(differs.before),
                "now": _document(differs.now),
                "same_data": differs.same_data,
                "rows": differs.rows,
                "changes": {name: [vars(change) for change in rows] for name, rows in differs.changes.items()},
                "quality": differs.quality,
            }
        )
        return
    names = tuple(f"{v.verdict[:12]} ({v.outcome})" for v in (differs.before, differs.now))
    heads = [("made", differs.before.made, differs.now.made), ("line", differs.before.line, differs.now.line)]
    data = [f"{v.data[:12] or '?'}" for v in (differs.before, differs.now)]
    rows = [(f"{split} rows", *(_figure(side) for side in pair)) for split, pair in differs.rows.items()]
    quality = [(name, *(_figure(side) for side in pair), _signed(pair)) for name, pair in differs.quality.items()]
    tables.show_columns("versions", ("", *names), [*heads, ("data", *data), *rows])
    changes = [(stage, row.field, row.before, row.now) for stage, all_ in differs.changes.items() for row in all_]
    tables.show_columns("what changed", ("stage", "field", "before", "now"), changes)
    if not changes:
        typer.echo("nothing that a key holds: the same inputs, params and code, judged twice")
    tables.show_columns("quality as served", ("metric", "before", "now", "difference"), quality)
    if not differs.same_data:
        typer.echo("their test rows differ: the figures say how each did on its own rows, not which is better")


def _document(version: Version) -> dict[str, Any]:
    document = {name: value for name, value in vars(version).items() if name != "stages"}
    return {**document, "stages": {stage: made.digest for stage, made in version.stages.items()}}


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _signed(pair: tuple[float | None, float | None]) -> str:
    before, now = pair
    return "-" if before is None or now is None else f"{now - before:+.4f}"
