"""`slipway gate`: the rules that a candidate will be held to, a row each."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from slipway.cli import tables
from slipway.cli.options import AsJson, Conf, Overrides
from slipway.config.gate_kinds import kind_rows


def gate(overrides: Overrides = None, conf: Conf = Path("conf"), as_json: AsJson = False) -> None:
    """Show the rules of the gate as this config sets them: kind, metric, reference, limit, level, and which key set it.

    Each key of section `gate` is shorthand for such rows; `gate.rules` takes rows themselves, and one of them takes the
    place of another key's row of the same kind, metric and reference, as in
    `gate.rules=[{rule: floor, metric: chrf, limit: 0.4}]`. Kinds of rules, and the keys of their rows, in brackets what
    may be left out:
    """
    from slipway.config.gate_rows import COLUMNS, row_cells, rows_of
    from slipway.config.load import load_config

    rows = rows_of(load_config(conf, overrides or []).gate)
    if as_json:
        tables.show_json({"rules": [asdict(row) for row in rows]})
    else:
        tables.show_columns("rules of the gate", COLUMNS, row_cells(rows))


_KINDS = "\n".join(f"- **{name}** ({takes}): {passes}" for name, passes, takes, _ in kind_rows())
gate.__doc__ = f"{(gate.__doc__ or '').rstrip()}\n\n{_KINDS}\n"
