"""Rows of the gate, as the config's keys make them."""

from __future__ import annotations

from typing import Any

from slipway.config.gate import GateConfig
from slipway.config.gate_rows import GateRow, rows_of


def rows(kind: str, **keys: Any) -> list[GateRow]:
    """The rows of this kind that section `gate` with these keys has."""
    return [row for row in rows_of(GateConfig.model_validate(keys)) if row.rule == kind]


def row(kind: str, **keys: Any) -> GateRow:
    """The only one of them."""
    (only,) = rows(kind, **keys)
    return only
