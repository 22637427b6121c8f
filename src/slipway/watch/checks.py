"""The tests of one look, and which of them are alarms: together they err with the look's level at most (Holm).

    quality      each metric of the task: then minus now of the same rows; alarm when the lower bound of the fall is
                 above `max_drop`, that is, the upper bound of the change under its margin
    longer, shorter   log2 of the tokens of an answer now over then; the bound against log2 of `max_verbosity`
    unanswered   share of rows without a whole answer; its exact lower bound (Clopper, Pearson (1934), Biometrika
                 26:404-413) against `max_unanswered`
    lengths, n-grams, labels of the inputs   "captured requests are drawn as the evaluated ones were", see `two_samples`

A test with too few rows to reach its level, or without captured prompts, has the outcome `cannot_tell` and is not in
the family: a look that could not have alarmed does not count as a sound one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, isfinite, log2
from typing import Any, Literal

from slipway.config.watch import WatchConfig
from slipway.evaluation.multiplicity import holm
from slipway.watch.replay import Answered, Replayed
from slipway.watch.two_samples import PORTION, PORTIONS, Distance, distances, label_kernel, length_kernel, ngram_kernel
from slipway.watch.typical_values import LEAST_P, clusters_needed, typical_values

LEAST_PROMPTS = 30  # distinct requests on each side
SPENT = (
    "this look's level is below what its tests can show: looks by hand use up what a week has, the next week's first "
    "look can say; or a smaller watch.looks_a_week"
)
Outcome = Literal["ok", "alarm", "cannot_tell"]


@dataclass(frozen=True)
class Check:
    """One test. `value`: what was measured, `then` and `now` its two sides where it has them; `bound`: its one-sided
    confidence bound at `level`, None where none has that level; `margin`: the alarm is a bound beyond it; of a distance
    `bound` is None and `margin` what chance explains. `level`: at which it was tested; `n`: rows, or prompts."""

    name: str
    meaning: str
    unit: Literal["share", "times", "distance"]
    value: float | None
    then: float | None
    now: float | None
    bound: float | None
    margin: float | None
    p: float | None
    level: float
    n: int
    outcome: Outcome
    reason: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Inputs:
    """Texts of evaluated and captured requests, and the classes of their answers (None where the task has none or
    nobody was asked)."""

    evaluated: Sequence[str]
    captured: Sequence[str]
    evaluated_labels: Sequence[str] | None = None
    captured_labels: Sequence[str] | None = None


@dataclass(frozen=True)
class _Test:
    """A check before it is known at which level it is tested."""

    name: str
    meaning: str
    unit: Literal["share", "times", "distance"]
    value: float
    then: float | None
    now: float | None
    margin: float | None
    p: float | None
    n: int
    bound_at: Any = None  # level -> bound in the unit of value
    reason: str = ""


def judge(
    replayed: Replayed,
    metrics: Mapping[str, str],
    inputs: Inputs | None,
    why_none: str,
    params: WatchConfig,
    level: float,
) -> list[Check]:
    """All checks of a look whose tests may err with `level` together. `metrics`: name -> direction; `why_none`: why
    there are no inputs."""
    family = len(metrics) + 3 + (3 if inputs else 0)
    tests = [_quality(name, way, replayed.answered, params, level / family) for name, way in metrics.items()]
    tests += [_verbosity(way, replayed.answered, params, level / family) for way in ("longer", "shorter")]
    tests += [_unanswered(replayed, params)]
    tests += _inputs(inputs, level / family) if inputs else []
    tested = [test for test in tests if test.p is not None]
    rejected = holm([float(test.p or 0) for test in tested], level)
    alarms = sorted((t for t, alarm in zip(tested, rejected, strict=True) if alarm), key=lambda test: test.p or 0)
    levels = {test.name: level / (len(tested) - rank) for rank, test in enumerate(alarms)}
    last = level / max(1, len(tested) - len(alarms))  # where Holm's procedure ended: none of the others is beyond it
    checks = [_check(test, levels.get(test.name, last), test.name in levels) for test in tests]
    return checks + ([] if inputs else [_absent(name, meaning, why_none, level) for name, meaning in INPUTS.items()])


def _check(test: _Test, level: float, alarm: bool) -> Check:
    bound = test.bound_at(level) if test.bound_at and test.p is not None else None
    outcome: Outcome = "cannot_tell" if test.p is None else "alarm" if alarm else "ok"
    return Check(
        test.name, test.meaning, test.unit, test.value, test.then, test.now,
        bound if bound is not None and isfinite(bound) else None,
        test.margin, test.p, level, test.n, outcome, test.reason,
    )  # fmt: skip


def _quality(name: str, direction: str, answered: Sequence[Answered], params: WatchConfig, level: float) -> _Test:
    both = [one for one in answered if one.then[name] is not None and one.now[name] is not None]
    then, now = [float(one.then[name] or 0) for one in both], [float(one.now[name] or 0) for one in both]
    sign = 1 if direction == "higher" else -1
    falls = [sign * (a - b) for a, b in zip(then, now, strict=True)]
    test = _paired(falls, [one.cluster for one in both], params.max_drop, level)
    return _Test(
        name, "change of the metric since the evaluation, same rows", "share", 0.0 - test.mean, _mean(then), _mean(now),
        -params.max_drop, test.p, len(both), lambda at: 0.0 - test.lower(at), test.reason,
    )  # fmt: skip


def _verbosity(
    way: Literal["longer", "shorter"], answered: Sequence[Answered], params: WatchConfig, level: float
) -> _Test:
    sign = 1 if way == "longer" else -1
    ratios = [sign * log2((one.tokens_now + 1) / (one.tokens_then + 1)) for one in answered]
    test = _paired(ratios, [one.cluster for one in answered], log2(params.max_verbosity), level)
    return _Test(
        f"answers {way}", "tokens of an answer now over then, geometric mean", "times", 2 ** (sign * test.mean),
        _mean([float(one.tokens_then) for one in answered]), _mean([float(one.tokens_now) for one in answered]),
        params.max_verbosity**sign, test.p, len(answered), lambda at: 2 ** (sign * test.lower(at)), test.reason,
    )  # fmt: skip


@dataclass(frozen=True)
class _Paired:
    mean: float
    p: float | None
    lower: Any
    reason: str = ""


def _paired(differences: Sequence[float], clusters: Sequence[str], margin: float, level: float) -> _Paired:
    """The test that the mean is above `margin`; without a p-value where no result could be an alarm at `level`."""
    groups, needed = len(set(clusters)), clusters_needed(level)
    mean = sum(differences) / len(differences) if differences else 0.0
    if groups < needed:
        reason = f"{groups} templates of rows; below {needed} nothing can be said at this level"
        return _Paired(mean, None, lambda _: -inf, reason)
    if level < LEAST_P:
        return _Paired(mean, None, lambda _: -inf, SPENT)
    values = typical_values(differences, clusters)
    return _Paired(values.mean, values.p_at_most(margin), values.lower)


def _unanswered(replayed: Replayed, params: WatchConfig) -> _Test:
    from scipy.special import betainc, betaincinv  # not above: the terminal imports this module's neighbours

    n, failed = replayed.asked, replayed.asked - len(replayed.answered)
    p = float(betainc(failed, n - failed + 1, params.max_unanswered)) if failed else 1.0
    return _Test(
        "unanswered", "share of the rows that got no whole answer", "share", failed / n, 0.0, failed / n,
        params.max_unanswered, p, n,
        lambda at: float(betaincinv(failed, n - failed + 1, at)) if failed else 0.0,
        replayed.reason,
    )  # fmt: skip


INPUTS = {
    "input lengths": "distance of the lengths of captured requests from the evaluated ones'",
    "input n-grams": "distance of their character trigrams",
    "input labels": "distance of the classes that are answered to them",
}


def _inputs(inputs: Inputs, level: float) -> list[_Test]:
    sizes = len(inputs.evaluated), len(inputs.captured)
    if min(sizes) < LEAST_PROMPTS:
        reason = f"{sizes[0]} evaluated and {sizes[1]} captured distinct requests; {LEAST_PROMPTS} of each are needed"
        return [_untested(name, sum(sizes), reason) for name in INPUTS]
    if level < 1 / (1 + PORTION * PORTIONS):
        return [_untested(name, sum(sizes), SPENT) for name in INPUTS]
    texts = [*inputs.evaluated, *inputs.captured]
    results = distances({"input lengths": length_kernel(texts), "input n-grams": ngram_kernel(texts)}, sizes[0], level)
    then, now = inputs.evaluated_labels, inputs.captured_labels
    reason = "the task has no classes"
    if then is not None and now is not None:
        reason = f"{len(then)} and {len(now)} answers; {LEAST_PROMPTS} of each are needed"
        if min(len(then), len(now)) >= LEAST_PROMPTS:
            results |= distances({"input labels": label_kernel([*then, *now])}, len(then), level)
    return [
        _distance(name, results[name], sum(sizes)) if name in results else _untested(name, sum(sizes), reason)
        for name in INPUTS
    ]


def _distance(name: str, distance: Distance, n: int) -> _Test:
    return _Test(name, INPUTS[name], "distance", distance.value, None, None, distance.limit, distance.p, n)


def _untested(name: str, n: int, reason: str) -> _Test:
    return _Test(name, INPUTS[name], "distance", 0.0, None, None, None, None, n, None, reason)


def _absent(name: str, meaning: str, reason: str, level: float) -> Check:
    return Check(name, meaning, "distance", None, None, None, None, None, None, level, 0, "cannot_tell", reason)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
