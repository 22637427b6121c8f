"""Section `watch`."""

from __future__ import annotations

import pytest

from slipway.config.watch import WatchConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed

BOUNDS: list[Bound] = [
    ("items", 0, 1), ("prompts", 0, 1), ("prompts", 1001, 1000), ("days", 0, 0.1), ("days", 366, 365),
    ("alpha", 0, 0.01), ("alpha", 0.5, 0.4), ("weeks", 0, 1), ("weeks", 521, 520), ("looks_a_week", 0, 1),
    ("looks_a_week", 8, 7), ("max_drop", -0.1, 0.0), ("max_drop", 1, 0.9), ("max_verbosity", 0.9, 1),
    ("max_verbosity", 101, 100), ("max_unanswered", 0, 0.01), ("max_unanswered", 1, 0.9), ("at_once", 0, 1),
    ("at_once", 65, 64), ("timeout_s", 0, 1),
]  # fmt: skip


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: f"{bound[0]}={bound[1]}")
def test_a_value_outside_its_bound_is_refused(bound: Bound) -> None:
    assert_bound("watch", bound)


def test_every_bound_is_tried() -> None:
    assert_every_bound_is_listed(WatchConfig, BOUNDS)
