"""The gate's rules as one list of rows, whichever key of section `gate` set them: all that the evaluator reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from slipway.config.gate import GateConfig, RuleRow
from slipway.config.gate_kinds import KINDS


@dataclass(frozen=True)
class GateRow:
    """One rule to apply, with everything filled in that its kind needs.

    `key`: the config key that set it. `limit`: threshold in the unit of what is measured. `margin`: largest loss of a
    paired rule, in the metric's unit. `alpha`: one-sided level of its test, before looks and trials share it.
    `min_items`: fewest items that it decides on. `smaller`, `faster`: shares that count as a gain. `context`: tokens of
    a request. `rows`: the test rows of a paired rule, `new` or `fixed` since the champion; empty for all.
    """

    rule: str
    key: str = ""
    metric: str = ""
    against: str = ""
    limit: float | Literal["auto"] = 0.0
    margin: float = 0.0
    alpha: float = 0.05
    min_items: int = 20
    smaller: float = 0.05
    faster: float = 0.05
    context: int = 4096
    rows: str = ""

    @property
    def number(self) -> float:
        """The limit of a rule that has a number for one."""
        return float(self.limit)


COLUMNS = ("rule", "metric", "against", "limit", "level", "set by", "passes when")


def rows_of(gate: GateConfig) -> list[GateRow]:
    """The rows in the order of `KINDS`; one of `gate.rules` takes the place of another key's row of the same kind,
    metric and reference."""
    explicit = {row.identity for row in gate.rules}
    rows = [_row(gate, row, key) for key, row in _shorthand(gate) if row.identity not in explicit]
    rows += [_row(gate, row, f"gate.rules.{at}") for at, row in enumerate(gate.rules)]
    rows.append(GateRow("agreement", "engine.agreement", alpha=1 - gate.confidence))
    order = list(KINDS)
    return sorted(rows, key=lambda row: order.index(row.rule))


def _row(gate: GateConfig, row: RuleRow, key: str) -> GateRow:
    return GateRow(
        row.rule,
        key,
        row.metric or "",
        row.against or "",
        row.limit if row.limit is not None else 0.0,
        row.margin or 0.0,
        row.alpha or 1 - gate.confidence,
        gate.min_items,
        row.smaller or gate.min_smaller,
        row.faster or gate.min_faster,
        row.context or gate.users_context,
        row.rows or "",
    )


def _shorthand(gate: GateConfig) -> Iterator[tuple[str, RuleRow]]:
    """The rows that keys other than `rules` stand for, each with its key."""
    for metric, floor in gate.floors.items():
        yield f"gate.floors.{metric}", RuleRow(rule="floor", metric=metric, limit=floor)
    for at, paired in enumerate(gate.non_inferiority):
        yield f"gate.non_inferiority.{at}", RuleRow(rule="non_inferiority", **paired.model_dump())
    if gate.tie == "keep":
        yield "gate.tie", RuleRow(rule="gain")
    for kind in KINDS.values():
        if "limit" in kind.takes and "metric" not in kind.takes:  # its first key is the limit
            limit = getattr(gate, kind.shorthand[0].removeprefix("gate."))
            if limit is not None:
                yield kind.shorthand[0], RuleRow.model_validate({"rule": kind.name, "limit": limit})


def against_of(row: GateRow) -> str:
    """What a rule compares with, and on which test rows: `champion`, `champion on new rows`."""
    return f"{row.against} on {row.rows} rows" if row.rows else row.against


def row_cells(rows: Sequence[GateRow]) -> list[tuple[str, ...]]:
    """Cells under `COLUMNS`, for people."""
    return [
        (
            row.rule,
            row.metric,
            against_of(row),
            _threshold(row),
            f"{row.alpha:.3g}" if "alpha" in KINDS[row.rule].takes else "",
            row.key,
            KINDS[row.rule].passes,
        )
        for row in rows
    ]


def _threshold(row: GateRow) -> str:
    takes, sign = KINDS[row.rule].takes, ">=" if KINDS[row.rule].direction == "at least" else "<="
    if "margin" in takes:
        return f"{row.margin:g} worse at most"
    if "limit" not in takes:
        return f"smaller {row.smaller:g}, faster {row.faster:g}" if row.rule == "gain" else "its own"
    if "metric" in takes:  # which of its sides is better its metric says, when it is measured
        return f"{row.limit:g} or better"
    return "auto" if row.limit == "auto" else f"{sign} {row.limit:g}"
