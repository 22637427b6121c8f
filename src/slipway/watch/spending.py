"""Levels of looks that come week after week: how much of alpha each may spend.

Every test of a look errs with its level, so looks at one level err more and more often. alpha is spread over the
calendar weeks (Monday 00:00 UTC to Monday) of `weeks` weeks, evenly, and within a week over its looks,

    look j <= planned    alpha / weeks * 0.8 / planned
    look j >  planned    alpha / weeks * 0.2 / ((j - planned) (j - planned + 1))

The second row sums to 0.2 over all j, so that no number of looks by hand, in whatever week, spends more than
alpha / weeks. The chance of any false alarm in `weeks` weeks is at most alpha (Bonferroni), whatever the dependence
between looks: the same items are asked again, and traffic of one week is like that of the next. Lan, DeMets (1983),
Biometrika 70:659-663, is the idea of spending; their boundary would be less conservative, and needs looks whose
information is independent of each other, which the same items asked again are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WEEK_S = 7 * 86400
MONDAY_S = 4 * 86400  # the first Monday after the epoch, a Thursday
DAY_S = 86400.0
PLANNED_SHARE = 0.8


@dataclass(frozen=True)
class LookLevel:
    """`week`: calendar week, counted from the epoch; `number`: which look of that week, from 1; `level`: what all tests
    of this look may err together; `clock_back_s`: seconds by which the clock stands before the last look, else 0."""

    week: int
    number: int
    level: float
    clock_back_s: float = 0.0


def look_level(now: float, earlier: Sequence[float], *, alpha: float, weeks: int, planned: int) -> LookLevel:
    """The level of a look at `now`, seconds since the epoch, after those `earlier` ones of the same release.

    A look whose time is before an earlier one's counts in that one's week: a clock that was set back must not give a
    week's level out twice.
    """
    latest = max(earlier, default=now)
    week = week_of(max(now, latest))
    number = 1 + sum(week_of(at) == week for at in earlier)
    if number <= planned:
        share = PLANNED_SHARE / planned
    else:
        share = (1 - PLANNED_SHARE) / ((number - planned) * (number - planned + 1))
    back = latest - now
    return LookLevel(week, number, alpha / weeks * share, back if back > 0 else 0.0)


def week_of(at: float) -> int:
    """The calendar week of a time, Monday 00:00 UTC to Monday; 0 is that of Monday 1970-01-05."""
    return int((at - MONDAY_S) // WEEK_S)
