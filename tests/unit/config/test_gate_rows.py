"""Rules of the gate as rows: from every key one list, strange ones refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.gate import GateConfig
from slipway.config.gate_kinds import KINDS
from slipway.config.gate_rows import COLUMNS, row_cells, rows_of
from slipway.config.load import load_config, parse
from slipway.errors import ConfigError

CONF = Path("conf")
FLOOR = {"rule": "floor", "metric": "exact", "limit": 0.5}


def test_every_key_of_the_section_that_sets_a_rule_makes_its_row() -> None:
    """`shorthand` of the kinds names real keys, and each of them leads to a row of that kind."""
    every = {
        "floors": {"exact": 0.5},
        "non_inferiority": [{"against": "merged", "metric": "exact", "margin": 0.1}],
        "max_bits_per_parameter": 4.6,
        "users": 3,
        "max_warm_start_s": 60,
        "max_boot_spread": 0.1,
    }
    assert [row.rule for row in rows_of(GateConfig.model_validate(every))] == list(KINDS)
    keys = [key for kind in KINDS.values() for key in kind.shorthand if key.startswith("gate.")]
    assert {key.removeprefix("gate.") for key in keys} <= set(GateConfig.model_fields)


def test_a_row_takes_the_place_of_the_key_that_makes_the_same_rule() -> None:
    rows = rows_of(GateConfig.model_validate({"floors": {"exact": 0.9, "chrf": 0.1}, "rules": [FLOOR], "min_items": 7}))
    floors = {row.metric: (row.limit, row.key, row.min_items) for row in rows if row.rule == "floor"}
    assert floors == {"exact": (0.5, "gate.rules.0", 7), "chrf": (0.1, "gate.floors.chrf", 7)}
    verbosity = rows_of(GateConfig.model_validate({"rules": [{"rule": "verbosity", "limit": 3}]}))
    assert [(row.limit, row.key) for row in verbosity if row.rule == "verbosity"] == [(3, "gate.rules.0")]


def test_without_rows_the_key_of_what_was_judged_is_as_before() -> None:
    assert "rules" not in GateConfig().key_document()
    assert GateConfig.model_validate({"rules": [FLOOR]}).key_document()["rules"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"rule": "flor"}, r"gate\.rules\.0\.rule.*'flor'"),
        ({**FLOOR, "limits": 1}, r"gate\.rules\.0\.limits.*did you mean limit"),
        ({"rule": "floor", "metric": "exact"}, "rule floor needs limit"),
        ({**FLOOR, "margin": 0.1}, "rule floor takes metric, limit, not margin"),
        ({**FLOOR, "limit": "auto"}, "rule floor has no limit `auto`"),
        ({**FLOOR, "limit": float("nan")}, r"gate\.rules\.0\.limit"),
        ({"rule": "non_inferiority", "metric": "exact", "margin": 0.1}, "needs against"),
        ({"rule": "cut_off", "limit": 1.2}, "limit of rule cut_off is 1.2; it is a number from 0 up to 1"),
        ({"rule": "verbosity", "limit": 1}, "it is a number above 1"),
        ({"rule": "memory", "limit": 2.5}, "a whole number of requests"),
        ({"rule": "memory", "limit": 0}, "a number from 1"),
        ({"rule": "of_roofline", "limit": 0}, "a number above 0 up to 1"),
        ("floor", r"gate\.rules\.0"),
    ],
    ids=str,
)
def test_a_strange_row_is_refused_by_name(row: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse({"gate": {"rules": [row]}}, "a test")


def test_the_same_rule_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gate\.rules\.0 and gate\.rules\.1 are the same rule, floor exact"):
        parse({"gate": {"rules": [FLOOR, {**FLOOR, "limit": 0.6}]}}, "a test")


def test_rows_are_shown_with_the_key_that_set_them() -> None:
    cells = row_cells(rows_of(load_config(CONF).gate))
    shown = [dict(zip(COLUMNS, row, strict=True)) for row in cells]
    floor = next(row for row in shown if row["rule"] == "floor")
    assert (floor["metric"], floor["limit"], floor["set by"]) == (
        "json_exact",
        "0.75 or better",
        "gate.floors.json_exact",
    )
    paired = next(row for row in shown if row["against"] == "champion")
    assert (paired["limit"], paired["level"]) == ("0.06 worse at most", "0.05")
