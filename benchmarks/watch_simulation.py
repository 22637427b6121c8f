"""How often `slipway watch` raises a false alarm in 2,000 weeks, and how soon it finds a shift that was planted.

`python -m benchmarks.watch_simulation --work DIR`: a release is evaluated, then looked at week after week by the look's
own level and tests (`slipway.watch.spending`, `.checks`); an engine is not run. Prints one JSON line.

A row of the test set is right in a share of the times that it is asked: most rows always or never, one in ten by
chance (a near tie that falls either way), and its answers have a length that varies with it. An evaluation is one such
answer to each of 238 rows of 99 templates, a look another one to 200 of them. Requests are sentences of one grammar,
evaluated and captured alike, answered with their class. Each release is looked at for 52 weeks, then another is
evaluated.

    false alarms   nothing changes, and the margins are 0: the hypothesis that is hardest to keep. `alarm_weeks` of
                   `weeks`; `releases_with_alarm` of `releases`, at most alpha of them; `p_at_most_0.05`: how often
                   each test's own p-value is that small, at most 5% if it is one
    shifts         the default margins, and from the first look on: answers that are wrong more often, longer answers,
                   other requests. Share of runs that are found at the first look, and within two and four
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gate_simulation import EMBEDDED
from benchmarks.measure import emit, say
from slipway.config.watch import WatchConfig
from slipway.watch.checks import Check, Inputs, judge
from slipway.watch.replay import Answered, Replayed
from slipway.watch.spending import MONDAY_S, WEEK_S, look_level

METRIC = "right"
NEAR_TIES, RIGHT = 0.10, 0.836
ROWS, PROMPTS = 200, 200
DEVICES = ("lamp", "fan", "heater", "radio", "blinds", "oven", "door", "camera")
ROOMS = ("kitchen", "hall", "bedroom", "bath", "cellar", "garage", "garden", "office")
WORDINGS = {
    "on": ("turn on the {d} in the {r}", "{d} on in the {r} please", "could you start the {d} of the {r}"),
    "off": ("turn off the {d} in the {r}", "{d} off in the {r} now", "stop the {d} of the {r}, I am done"),
    "state": ("is the {d} in the {r} on", "what does the {d} of the {r} say"),
}
OTHER = ("what is the weather in {r} town tomorrow", "tell me a story of a {d}", "how far is the next {r} from here")


@dataclass(frozen=True)
class Row:
    """One test row: how often it is answered rightly, and the usual tokens of an answer."""

    right: float
    tokens: int
    template: str


class Release:
    """An evaluated release, and looks at it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rows = [self._row(f"t{t}") for t, size in enumerate(EMBEDDED.sizes) for _ in range(size)]
        self.then = [self._answer(row, 0.0, 1.0) for row in self.rows]
        self.evaluated = [self._request(0.0) for _ in range(PROMPTS)]
        self.looks: list[float] = []

    def look(
        self, at: float, params: WatchConfig, *, fall: float = 0.0, longer: float = 1.0, other: float = 0.0
    ) -> list[Check]:
        """The checks of a look at a time, with what is planted: share of right answers lost, factor of the tokens,
        share of requests of another kind."""
        level = look_level(at, self.looks, alpha=params.alpha, weeks=params.weeks, planned=params.looks_a_week)
        self.looks.append(at)
        chosen = self.random.sample(range(len(self.rows)), ROWS)
        answered = [self._answered(i, fall, longer) for i in chosen]
        captured = [self._request(other) for _ in range(PROMPTS)]
        inputs = Inputs(*([side[0] for side in sides] for sides in (self.evaluated, captured)),
                        *([side[1] for side in sides] for sides in (self.evaluated, captured)))  # fmt: skip
        return judge(Replayed(ROWS, answered), {METRIC: "higher"}, inputs, "", params, level.level)

    def _row(self, template: str) -> Row:
        right = 0.5 if self.random.random() < NEAR_TIES else float(self.random.random() < RIGHT)
        return Row(right, self.random.randrange(8, 40), template)

    def _answer(self, row: Row, fall: float, longer: float) -> tuple[float, int]:
        is_right = self.random.random() < row.right and self.random.random() >= fall / RIGHT
        varies = self.random.choice((-1, 0, 1)) if row.right == 0.5 else 0
        return float(is_right), max(1, round((row.tokens + varies) * longer))

    def _answered(self, at: int, fall: float, longer: float) -> Answered:
        row, (then, tokens_then) = self.rows[at], self.then[at]
        now, tokens = self._answer(row, fall, longer)
        return Answered(f"r{at}", row.template, {METRIC: then}, {METRIC: now}, tokens_then, tokens)

    def _request(self, other: float) -> tuple[str, str]:
        """A sentence and the class that is answered to it, wrong in one of twenty."""
        is_other = self.random.random() < other
        label = "other" if is_other else self.random.choice(tuple(WORDINGS))
        wording = self.random.choice(OTHER if is_other else WORDINGS[label])
        text = wording.format(d=self.random.choice(DEVICES), r=self.random.choice(ROOMS))
        return text, self.random.choice(tuple(WORDINGS)) if is_other or self.random.random() < 0.05 else label


def false_alarms(weeks: int, seed: int) -> dict[str, Any]:
    """`weeks` looks at which nothing has changed, with margins of 0."""
    params = WatchConfig(max_drop=0, max_verbosity=1)
    small: Counter[str] = Counter()
    tested: Counter[str] = Counter()
    alarms, releases = [], -(-weeks // params.weeks)
    release = Release(seed)
    for week in range(weeks):
        if week % params.weeks == 0:
            release = Release(seed + week)
        checks = release.look(MONDAY_S + week * WEEK_S + 5 * 3600, params)
        for check in checks:
            tested[check.name] += check.p is not None
            small[check.name] += check.p is not None and check.p <= 0.05
        alarms += [(week, check.name) for check in checks if check.outcome == "alarm"]
        if week % 200 == 199:
            say(f"{week + 1} weeks, {len(alarms)} alarms")
    return {
        "weeks": weeks,
        "alarm_weeks": len({week for week, _ in alarms}),
        "alarms": [f"week {week}: {name}" for week, name in alarms],
        "releases": releases,
        "releases_with_alarm": len({week // params.weeks for week, _ in alarms}),
        "alpha": params.alpha,
        "tested": min(tested.values()),
        "p_at_most_0.05": {name: round(small[name] / weeks, 4) for name in tested},
    }


SHIFTS: dict[str, dict[str, float]] = {
    "fall_10_points": {"fall": 0.10},
    "fall_15_points": {"fall": 0.15},
    "fall_20_points": {"fall": 0.20},
    "answers_1.5_times_as_long": {"longer": 1.5},
    "answers_0.6_times_as_long": {"longer": 0.6},
    "a_quarter_of_other_requests": {"other": 0.25},
    "half_of_other_requests": {"other": 0.5},
}


def delays(runs: int, seed: int) -> dict[str, dict[str, float]]:
    """`delay` of every shift."""
    shares = {}
    for name, planted in SHIFTS.items():
        shares[name] = delay(planted, runs, seed)
        say(f"{name}: {shares[name]}")
    return shares


def delay(planted: dict[str, float], runs: int, seed: int) -> dict[str, float]:
    """Share of runs whose shift is found at the first look, and within two and four."""
    looks = [_first_alarm(Release(seed + run), planted) for run in range(runs)]
    return {f"within_{most}": round(sum(n <= most for n in looks) / runs, 3) for most in (1, 2, 4)} | {"runs": runs}


def _first_alarm(release: Release, planted: dict[str, float]) -> int:
    """The number of the look that finds it; 5 for none of four."""
    for number in range(1, 5):
        checks = release.look(MONDAY_S + number * WEEK_S, WatchConfig(), **planted)
        if any(check.outcome == "alarm" for check in checks):
            return number
    return 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Both, as one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--work", type=Path, required=True, help="taken as by the other benchmarks; nothing is written there"
    )
    parser.add_argument("--weeks", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=20, help="of each planted shift")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with ProcessPoolExecutor(2) as pool:
        quiet = pool.submit(false_alarms, given.weeks, given.seed)
        shifts = pool.submit(delays, given.runs, 1000 * given.seed)
        emit("watch_simulation", {"false_alarms": quiet.result(), "shifts": shifts.result()})


if __name__ == "__main__":
    main()
