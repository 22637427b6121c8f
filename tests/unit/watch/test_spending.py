"""Levels of looks: a year of looks spends alpha, however many are taken by hand and wherever the clock stands."""

from __future__ import annotations

import pytest

from slipway.watch.spending import DAY_S, WEEK_S, look_level, week_of

MONDAY = 4 * DAY_S + 2900 * WEEK_S  # 2025-08-04
SETTINGS = {"alpha": 0.05, "weeks": 52, "planned": 1}


def test_weeks_begin_on_monday() -> None:
    assert week_of(4 * DAY_S) == 0  # 1970-01-05
    assert week_of(MONDAY) == week_of(MONDAY + WEEK_S - 1) == week_of(MONDAY - 1) + 1


def test_the_planned_look_has_four_fifths_of_its_week() -> None:
    level = look_level(MONDAY + 5 * 3600, [], **SETTINGS)
    assert (level.week, level.number, level.level) == (2900, 1, pytest.approx(0.05 / 52 * 0.8))
    assert look_level(MONDAY + WEEK_S, [MONDAY + 5 * 3600], **SETTINGS).level == pytest.approx(0.05 / 52 * 0.8)


@pytest.mark.parametrize("planned", [1, 7])
def test_looks_by_hand_never_spend_more_than_their_week(planned: int) -> None:
    taken: list[float] = []
    spent = 0.0
    for minute in range(2000):
        now = MONDAY + 60.0 * minute
        spent += look_level(now, taken, alpha=0.05, weeks=52, planned=planned).level
        taken.append(now)
    assert 0.05 / 52 * 0.999 < spent < 0.05 / 52


def test_two_looks_by_hand_by_hand_computed() -> None:
    second = look_level(MONDAY + 2, [MONDAY], **SETTINGS)
    third = look_level(MONDAY + 3, [MONDAY, MONDAY + 2], **SETTINGS)
    assert (second.level, third.level) == (pytest.approx(0.05 / 52 * 0.2 / 2), pytest.approx(0.05 / 52 * 0.2 / 6))


def test_a_clock_that_was_set_back_gives_no_level_out_twice() -> None:
    level = look_level(MONDAY - 3 * WEEK_S, [MONDAY], **SETTINGS)
    assert (level.week, level.number, level.clock_back_s) == (2900, 2, 3 * WEEK_S)
