"""Throughput search: the fastest setting of a recipe that fits the target's memory, from a few short probes.

1. Probe the recipe as it is: the baseline, and the first point of both models (`tune_model`).
2. Of the settings expected to fit, probe the one expected to be fastest; correct the models with what it did. One that
does not
   fit teaches the memory model; one that dies is a row. A probe stops as soon as it is clearly slower than the best.
3. Stop when nothing left is expected to beat the best even with `HOPE`, then try each attention and loss not tried yet
on the
   best, and go on from there if one helps. The budget, in seconds with start-up, ends it at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from slipway.training.tuning.cost_model import MemoryModel, SpeedModel
from slipway.training.tuning.setting import Machine, Prober, Result, Setting

HOPE = 1.25  # a setting may be this much faster than expected
SAME = 1.01  # within this, the one with less memory is taken
ROOM = 1.03  # memory may be overestimated by this much
STEPS = 3  # timed, after one that is not
STEP_BASELINES = (
    4  # a timed step holds at least the tokens of this many micro-batches of the baseline: others accumulate
)
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
MICRO_BATCHES = (1, 2, 4, 8)
CHECKPOINTING = ("none", "selective", "full")
Look = Callable[[Result], None]


@dataclass(frozen=True)
class Space:
    """All that may be tried, and the bytes a setting may take on one GPU."""

    settings: tuple[Setting, ...]
    limit: float


@dataclass
class SearchResult:
    """What a search did: every probe in order, the first being the baseline, and what was never probed and why."""

    machine: Machine
    baseline: Result
    results: list[Result]
    seconds: float = 0.0
    ended: str = ""
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def best(self) -> Result:
        """The fastest that fits; of those as fast within 1%, the one that takes least memory."""
        fit = [r for r in self.results if r.status == "ok"]
        top = max(r.tokens_per_s for r in fit)
        return min((r for r in fit if r.tokens_per_s * SAME >= top), key=lambda r: (r.reserved, -r.tokens_per_s))

    @property
    def gain(self) -> float:
        return self.best.tokens_per_s / self.baseline.tokens_per_s


def space(baseline: Setting, machine: Machine, limit: float, least: int, most: int) -> Space:
    """Every setting on this machine with packs between `least` (the longest document) and `most` (the model's context)
    tokens."""
    lengths = sorted({n for n in (*LENGTHS, baseline.pack_length) if least <= n <= most})
    found = [
        Setting(n, m, mode, attention, loss)
        for n in lengths
        for m in MICRO_BATCHES
        for mode in CHECKPOINTING
        for attention in machine.attentions
        for loss in machine.losses
    ]
    return Space(tuple(dict.fromkeys((baseline, *found))), limit)


def step_tokens(baseline: Setting) -> int:
    """Least tokens of a timed step, padding included: the same work for every setting that is not larger."""
    return STEP_BASELINES * baseline.tokens


class Search:
    """One search. `look` sees every result as it comes."""

    def __init__(
        self,
        prober: Prober,
        machine: Machine,
        space: Space,
        speed: SpeedModel,
        memory: MemoryModel,
        *,
        deadline: float,
        look: Look,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prober, self._machine, self._space, self._look = prober, machine, space, look
        self._speed, self._memory, self._deadline = speed, memory, deadline
        self._results: list[Result] = []
        self._clock = clock
        self._longest_change = 2.0

    def run(self, baseline: Setting) -> SearchResult:
        """Probe until nothing better is expected or the deadline is near. Raises nothing of its own: the baseline
        decides."""
        start = self._clock()
        first = self._probe(baseline)
        found = SearchResult(self._machine, first, self._results)
        while first.status == "ok":
            if (setting := self._next()) is None:
                found.ended = "nothing left is expected to be faster"
                break
            if self._clock() + self._cost(setting) > self._deadline:
                found.ended = "the time was up"
                break
            self._probe(setting)
        found.seconds = self._clock() - start + self._machine.seconds
        found.skipped = self._skipped()
        return found

    def _probe(self, setting: Setting) -> Result:
        result = self._prober.probe(setting, self._best_low())
        if result.status == "ok" and result.reserved > self._space.limit:
            result = replace(result, status="too_big", reason="more than the target may use")
        self._results.append(result)
        if result.reserved and result.status in ("ok", "slower", "too_big"):
            self._memory.seen(setting, result.reserved)
        elif result.status == "oom":
            self._memory.exceeded(setting, self._space.limit)
        if result.steps:
            self._longest_change = max(self._longest_change, result.seconds - (result.steps + 1) * result.step_s)
        if any(r.tokens_per_s for r in self._results):
            self._speed.learn(self._results)
        self._look(result)
        return result

    def _next(self) -> Setting | None:
        """The most promising setting of those that may win, else the best with an attention or a loss nobody has
        tried."""
        open_ = [s for s in self._open() if self._fits(s)]
        hopeful = [s for s in open_ if self._speed.expected(s) * HOPE > self._best()]
        plain = [s for s in hopeful if self._tried(s)]
        if plain:
            return max(plain, key=self._speed.expected)
        untried = [
            s for s in open_ if not self._tried(s) and sum(not self._known(v) for v in (s.attention, s.loss)) == 1
        ]
        return max(untried, key=lambda s: (self._likeness(s), self._speed.expected(s)), default=None)

    def _open(self) -> Iterable[Setting]:
        done = {r.setting for r in self._results}
        broken = self._broken()
        return (
            s
            for s in self._space.settings
            if s not in done and not {s.attention, s.loss} & broken and not self._dominated(s)
        )

    def _dominated(self, setting: Setting) -> bool:
        """It needs at least what something needed that did not fit."""
        return any(
            r.status in ("oom", "too_big")
            and _rest(r.setting) == _rest(setting)
            and r.setting.pack_length <= setting.pack_length
            and r.setting.micro_batch <= setting.micro_batch
            for r in self._results
        )

    def _fits(self, setting: Setting) -> bool:
        return self._memory.expected(setting) <= self._space.limit * ROOM

    def _broken(self) -> set[str]:
        """Attentions and losses that only ever failed."""
        return {
            v for r in self._results if r.status == "error" for v in (r.setting.attention, r.setting.loss)
        } - self._working()

    def _working(self) -> set[str]:
        return {v for r in self._results if r.tokens_per_s for v in (r.setting.attention, r.setting.loss)}

    def _known(self, value: str) -> bool:
        return any(value in (r.setting.attention, r.setting.loss) for r in self._results)

    def _tried(self, setting: Setting) -> bool:
        return self._known(setting.attention) and self._known(setting.loss)

    def _likeness(self, setting: Setting) -> int:
        """How many parts it shares with the best."""
        best = max((r for r in self._results if r.status == "ok"), key=lambda r: r.tokens_per_s).setting
        parts = ("pack_length", "micro_batch", "checkpointing", "attention", "loss")
        return sum(getattr(best, part) == getattr(setting, part) for part in parts)

    def _best(self) -> float:
        return max((r.tokens_per_s for r in self._results if r.status == "ok"), default=0.0)

    def _best_low(self) -> float:
        return max((r.low for r in self._results if r.status == "ok"), default=0.0)

    def _cost(self, setting: Setting) -> float:
        """Seconds the next probe may take: its steps at the speed expected, and what a change of setting has taken at
        most."""
        return (STEPS + 1) * max(step_tokens(self._space.settings[0]), setting.tokens) / self._speed.expected(
            setting
        ) / 0.8 + self._longest_change

    def _skipped(self) -> dict[str, int]:
        """Settings never probed, counted by why."""
        left = list(self._open())
        if not any(r.tokens_per_s for r in self._results):
            return {"not reached": len(left)}
        big = sum(not self._fits(s) for s in left)
        done = len({r.setting for r in self._results})
        parts = self._broken()
        broken = sum(bool({s.attention, s.loss} & parts) for s in self._space.settings) - sum(
            bool({r.setting.attention, r.setting.loss} & parts) for r in self._results
        )
        hopeful = sum(self._fits(s) and self._speed.expected(s) * HOPE > self._best() for s in left)
        unfit = big + len(self._space.settings) - done - len(left) - broken
        counts = {
            "expected not to fit": unfit,
            "expected slower": len(left) - big - hopeful,
            "not reached": hopeful,
            "not working": broken,
        }
        return {why: count for why, count in counts.items() if count}


def _rest(setting: Setting) -> tuple[str, str, str]:
    return setting.checkpointing, setting.attention, setting.loss
