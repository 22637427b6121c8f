"""The table of kinds of rules, of which docs and help are printed."""

from __future__ import annotations

from pathlib import Path

from slipway.config.gate import RuleRow
from slipway.config.gate_kinds import COLUMNS, KINDS, kind_rows, kinds_table


def test_kinds_take_keys_that_a_row_has_and_need_some_of_them() -> None:
    for kind in KINDS.values():
        assert set(kind.needs) <= set(kind.takes) <= set(RuleRow.model_fields) - {"rule"}, kind.name
        assert kind.passes and kind.shorthand, kind.name
    assert all(len(row) == len(COLUMNS) for row in kind_rows())


def test_the_docs_have_the_table_of_kinds() -> None:
    assert kinds_table() in Path("docs/gate.md").read_text()
