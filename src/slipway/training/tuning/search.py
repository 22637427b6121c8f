"""Throughput search: the fastest setting of a recipe that fits the target's memory, from a few short probes.

1. Probe the recipe as it is: the baseline, and the first point of both models (`cost_model`).
2. Of the settings expected to fit, probe the one expected to be fastest; refit the models with its result. One that
does
   not fit corrects the memory model; one that fails is a row of the result. A probe stops as soon as it is clearly
   slower than the best.
3. When no setting is expected to beat the best even with `OPTIMISM`, try each attention and loss not tried yet on the
   best, and go on from there if one helps. The budget, in seconds with start-up, ends the search at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from slipway.training.tuning.cost_model import MemoryModel, SpeedModel
from slipway.training.tuning.setting import Machine, Prober, Result, Setting

OPTIMISM = 1.25  # a setting may be this much faster than expected
TIE = 1.01  # of settings whose speeds differ by less, the one with less memory is taken
MEMORY_TOLERANCE = 1.03  # memory may be overestimated by this much
STEPS = 3  # timed, after one that is not
# A timed step holds at least the tokens of this many micro-batches of the baseline: smaller settings accumulate
STEP_BASELINES = 4
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
MICRO_BATCHES = (1, 2, 4, 8)
OnResult = Callable[[Result], None]


@dataclass(frozen=True)
class SearchSpace:
    """All settings that may be tried, and the bytes one may take on one GPU."""

    settings: tuple[Setting, ...]
    limit: float


@dataclass
class SearchResult:
    """What a search measured: every probe in order, the first being the baseline; `seconds` of the whole search, why it
    `ended`, and how many settings were never probed, by reason (`skipped`)."""

    machine: Machine
    baseline: Result
    results: list[Result]
    seconds: float = 0.0
    ended: str = ""
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def best(self) -> Result:
        """The fastest result that fits; of those as fast within 1%, the one that takes least memory."""
        fit = [r for r in self.results if r.status == "ok"]
        top = max(r.tokens_per_s for r in fit)
        return min((r for r in fit if r.tokens_per_s * TIE >= top), key=lambda r: (r.reserved, -r.tokens_per_s))

    @property
    def gain(self) -> float:
        """Speed of the best result over the baseline's."""
        return self.best.tokens_per_s / self.baseline.tokens_per_s


def search_space(
    baseline: Setting, machine: Machine, limit: float, least: int, most: int, recomputation: Sequence[str]
) -> SearchSpace:
    """Every setting that `machine` can run with packs of `least` (the longest document) to `most` (the model's context)
    tokens and a recomputation that the recipe's method allows, the baseline first; `limit` bytes a GPU."""
    lengths = sorted({n for n in (*LENGTHS, baseline.pack_length) if least <= n <= most})
    settings = [
        Setting(n, m, mode, attention, loss)
        for n in lengths
        for m in MICRO_BATCHES
        for mode in recomputation
        for attention in machine.attentions
        for loss in machine.losses
    ]
    return SearchSpace(tuple(dict.fromkeys((baseline, *settings))), limit)


def step_tokens(baseline: Setting) -> int:
    """Least tokens of a timed step, padding included: settings with smaller micro-batches accumulate up to the same
    work."""
    return STEP_BASELINES * baseline.tokens


class Search:
    """One search over `space` with `prober`, guided by the models `speed` and `memory`.

    `on_result` is called with every result as it comes; `deadline` is on `clock`'s time, seconds.
    """

    def __init__(
        self,
        prober: Prober,
        machine: Machine,
        space: SearchSpace,
        speed: SpeedModel,
        memory: MemoryModel,
        *,
        deadline: float,
        on_result: OnResult,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prober, self._machine, self._space, self._on_result = prober, machine, space, on_result
        self._speed, self._memory, self._deadline = speed, memory, deadline
        self._results: list[Result] = []
        self._clock = clock
        self._longest_change = 2.0  # seconds to change to a setting, at most so far

    def run(self, baseline: Setting) -> SearchResult:
        """Probe until nothing better is expected or the next probe would pass the deadline. When the baseline does not
        run, its result is the only one."""
        start = self._clock()
        first = self._probe(baseline)
        outcome = SearchResult(self._machine, first, self._results)
        while first.status == "ok":
            if (setting := self._next()) is None:
                outcome.ended = "nothing left is expected to be faster"
                break
            if self._clock() + self._cost(setting) > self._deadline:
                outcome.ended = "the time was up"
                break
            self._probe(setting)
        outcome.seconds = self._clock() - start + self._machine.seconds
        outcome.skipped = self._skipped()
        return outcome

    def _probe(self, setting: Setting) -> Result:
        result = self._prober.probe(setting, self._best_low())
        if result.status == "ok" and result.reserved > self._space.limit:
            result = replace(result, status="too_big", reason="more than the target may use")
        self._results.append(result)
        if result.reserved and result.status in ("ok", "slower", "too_big"):
            self._memory.learn_peak(setting, result.reserved)
        elif result.status == "oom":
            self._memory.learn_excess(setting, self._space.limit)
        if result.steps:
            self._longest_change = max(self._longest_change, result.seconds - (result.steps + 1) * result.step_s)
        if any(r.tokens_per_s for r in self._results):
            self._speed.learn(self._results)
        self._on_result(result)
        return result

    def _next(self) -> Setting | None:
        """The setting expected to be fastest of those that may beat the best, with parts that were probed already; else
        the best one with an attention or a loss that no probe has tried; else None."""
        fitting = [s for s in self._candidates() if self._fits(s)]
        promising = [s for s in fitting if self._speed.expected(s) * OPTIMISM > self._best()]
        familiar = [s for s in promising if self._tried(s)]
        if familiar:
            return max(familiar, key=self._speed.expected)
        # One new part at a time: when a setting with two fails, nobody knows which of them is broken
        untried = [
            s for s in fitting if not self._tried(s) and sum(not self._known(v) for v in (s.attention, s.loss)) == 1
        ]
        return max(untried, key=lambda s: (self._likeness(s), self._speed.expected(s)), default=None)

    def _candidates(self) -> Iterable[Setting]:
        """Settings not probed yet that neither hold a broken part nor are known not to fit."""
        done = {r.setting for r in self._results}
        broken = self._broken()
        return (
            s
            for s in self._space.settings
            if s not in done and not {s.attention, s.loss} & broken and not self._dominated(s)
        )

    def _dominated(self, setting: Setting) -> bool:
        """Whether a setting that is not larger, and otherwise equal, did not fit."""
        return any(
            r.status in ("oom", "too_big")
            and _rest(r.setting) == _rest(setting)
            and r.setting.pack_length <= setting.pack_length
            and r.setting.micro_batch <= setting.micro_batch
            for r in self._results
        )

    def _fits(self, setting: Setting) -> bool:
        return self._memory.expected(setting) <= self._space.limit * MEMORY_TOLERANCE

    def _broken(self) -> set[str]:
        """Attentions and losses with which every probe so far failed."""
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
        """How many parts a setting shares with the best one."""
        best = max((r for r in self._results if r.status == "ok"), key=lambda r: r.tokens_per_s).setting
        parts = ("pack_length", "micro_batch", "checkpointing", "attention", "loss")
        return sum(getattr(best, part) == getattr(setting, part) for part in parts)

    def _best(self) -> float:
        return max((r.tokens_per_s for r in self._results if r.status == "ok"), default=0.0)

    def _best_low(self) -> float:
        return max((r.low for r in self._results if r.status == "ok"), default=0.0)

    def _cost(self, setting: Setting) -> float:
        """Seconds that probing a setting may take: its steps at 0.8 of the expected speed, and the longest change of
        setting so far."""
        tokens = (STEPS + 1) * max(step_tokens(self._space.settings[0]), setting.tokens)
        return tokens / (0.8 * self._speed.expected(setting)) + self._longest_change

    def _skipped(self) -> dict[str, int]:
        """How many settings were never probed, by reason."""
        unprobed = list(self._candidates())
        if not any(r.tokens_per_s for r in self._results):
            return {"not reached": len(unprobed)}
        big = sum(not self._fits(s) for s in unprobed)
        done = len({r.setting for r in self._results})
        parts = self._broken()
        broken = sum(bool({s.attention, s.loss} & parts) for s in self._space.settings) - sum(
            bool({r.setting.attention, r.setting.loss} & parts) for r in self._results
        )
        promising = sum(self._fits(s) and self._speed.expected(s) * OPTIMISM > self._best() for s in unprobed)
        unfit = big + len(self._space.settings) - done - len(unprobed) - broken
        counts = {
            "expected not to fit": unfit,
            "expected slower": len(unprobed) - big - promising,
            "not reached": promising,
            "not working": broken,
        }
        return {reason: count for reason, count in counts.items() if count}


def _rest(setting: Setting) -> tuple[str, str, str]:
    return setting.checkpointing, setting.attention, setting.loss
