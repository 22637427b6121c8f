"""Does an engine that was started anew answer as it did when it was evaluated? Tests of its answers to recorded rows.

Two starts of one engine differ by the order of floating-point sums. With d = log p_now(y) - log p_recorded(y) on the
tokens that both wrote before they part, and at the parting on those that both hold likeliest (the same context yet),

    noise  = max(2 L u, L r)      nats; the mean |d| that a sound start has at most
    u      mean move of a token by the kernels' rounding, which kernel agreement measured (ADR 43)
    r      mean |d| of the evaluation's own repeats
    L      kernel agreement's limit on mean |log p_engine - log p_kernel| / u: two starts that each keep it are within
           2 L u of each other (triangle inequality)

A healthy start may take another token only where the recorded one led by little. With |d| taken as exponential, the
difference of two tokens' d exceeds a lead of m nats with probability exp(-m / (2 noise)) / 2 at most, and

    unlikely_token   the largest lead of a token that was not taken; limit 2 noise ln(tokens / FALSE_ALARM)
    log_probability  mean |d|; limit noise
    unequal          answers that differ; limit: the quantile of a sum of Bernoulli variables with each row's chance
                     1 - prod_t (1 - exp(-m_t / (2 noise)) / 2)
    empty, loops, cut_off    answers of such a form; limit by what was recorded (`most_again`)
    slow             median seconds a token over the recorded; limit set by a person, a sanity check

Where the engine gave no log-probabilities `unequal` has the limit of `most_again`. Each limit is exceeded by a sound
start with probability FALSE_ALARM at most (`loops`: LOOP_ALARM), if |d| has no heavier tail; the noise is a limit
itself, so there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from statistics import median
from typing import Any

from slipway.engines.probability_client import TokenAnswer
from slipway.evaluation.kernel_agreement import RATIO
from slipway.evaluation.prediction_limits import FALSE_ALARM, most_again, most_unequal
from slipway.evaluation.recorded_answers import RecordedRow
from slipway.evaluation.repetition import repeated_share

LOOP_ALARM = 0.01  # of the few long answers: at FALSE_ALARM no number of them could fail
ASSUMED_ROUNDING = 0.013  # nats, of NVFP4 (ADR 43): where neither agreement nor the repeats say anything
LOOPS, TAIL = 0.5, 400  # share of repeated 8-grams in an answer's last characters: most of them have been said before
LEAST_TOKENS = 24  # that both wrote, for a mean difference
SHOWN = 160  # characters of an answer in an example


@dataclass(frozen=True)
class DriftTest:
    """One test: `passed` where `value` is at most `limit`, and where there is none; `example` is the worst case, for a
    person."""

    name: str
    value: float
    limit: float | None
    passed: bool
    meaning: str
    example: str = ""


@dataclass(frozen=True)
class Drift:
    """All tests of a start, the noise they allowed for with its source, and how much was compared."""

    tests: tuple[DriftTest, ...]
    noise: float | None
    noise_from: str
    rows: int
    tokens: int

    @property
    def failed(self) -> list[DriftTest]:
        """Tests that did not pass, the most telling first."""
        return [test for test in self.tests if not test.passed]

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Divergence:
    """Where two answers to one row part: |d| in nats of the tokens `before` and of the likeliest ones `there`; `lead`
    by how much the token that the record took led the one taken now, at least; None where they are equal or nothing is
    known of it."""

    equal: bool
    before: tuple[float, ...] = ()
    there: tuple[float, ...] = ()
    lead: float | None = None

    @property
    def differences(self) -> tuple[float, ...]:
        """All |d|, in nats."""
        return self.before + self.there


def judge_drift(
    rows: Sequence[RecordedRow], answers: Sequence[TokenAnswer], *, rounding: float | None, slowest: float | None
) -> Drift:
    """The tests of `answers`, one for each of `rows`. `rounding`: u in nats, None where it was not measured; `slowest`:
    times the recorded seconds a token, None to show them only."""
    parted = [divergence(row.record, answer) for row, answer in zip(rows, answers, strict=True)]
    again = [divergence(row.record, answer) for row in rows for answer in row.answers[1:]]
    with_tokens = any(row.has_probabilities for row in rows)
    noise, source = noise_of(again, rounding) if with_tokens else (None, "no log-probabilities")
    tests = [
        _of_form("empty", "answers without text", rows, answers, lambda one: not one.text.strip()),
        *(
            _of_form("loops", f"{kind} answers that repeat themselves", part, theirs, _loops, LOOP_ALARM)
            for kind, part, theirs in _by_kind(rows, answers)
        ),
        *(
            _of_form("cut_off", "answers that end at the token limit", part, theirs, lambda one: one.finish == "length")
            for kind, part, theirs in _by_kind(rows, answers)
            if kind == "task"
        ),
    ]
    tokens = sum(len(one.differences) for one in parted)
    if noise is not None:
        tests += _unlikely(rows, answers, parted, again, noise)
        tests += [test for kind in ("task", "long") for test in _mean_difference(kind, rows, parted, noise)]
    tests.append(_unequal(rows, answers, parted, again, noise))
    tests.append(_slow(rows, answers, slowest))
    return Drift(tuple(tests), noise, source, len(rows), tokens)


def divergence(record: TokenAnswer, now: TokenAnswer) -> Divergence:
    """Where `now` leaves `record`."""
    if not record.tokens or not now.tokens:
        return Divergence(record.text == now.text)
    common = next(
        (at for at, (a, b) in enumerate(zip(record.tokens, now.tokens, strict=False)) if a != b),
        min(len(record.tokens), len(now.tokens)),
    )
    pairs = zip(record.log_probabilities[:common], now.log_probabilities[:common], strict=True)
    differences = tuple(abs(a - b) for a, b in pairs if a is not None and b is not None)
    if common == len(record.tokens) == len(now.tokens):
        return Divergence(True, differences)
    if common == min(len(record.tokens), len(now.tokens)):
        return Divergence(False, differences)
    then, today = (dict(one.alternatives[common]) if one.alternatives else {} for one in (record, now))
    there = tuple(abs(then[token] - today[token]) for token in sorted(then.keys() & today.keys()))
    return Divergence(False, differences, there, _lead(record, common, now.tokens[common]))


def noise_of(again: Sequence[Divergence], rounding: float | None) -> tuple[float, str]:
    """The mean |d| in nats that a sound start has at most, and where it comes from. Not from where repeats part: an
    answer parts where |d| happens to be large."""
    repeats = [value for one in again for value in one.before]
    by_repeats = RATIO.limit * sum(repeats) / len(repeats) if repeats else 0.0
    by_rounding = 2 * RATIO.limit * rounding if rounding else 0.0
    if by_rounding >= by_repeats and by_rounding > 0:
        return by_rounding, f"kernel agreement's rounding of {rounding:.3g} nats a token"
    if by_repeats > 0:
        return by_repeats, f"repeats of the evaluation, {by_repeats / RATIO.limit:.3g} nats a token"
    return 2 * RATIO.limit * ASSUMED_ROUNDING, f"assumed, {ASSUMED_ROUNDING} nats a token: nothing was measured"


def _lead(record: TokenAnswer, at: int, taken: str) -> float | None:
    """By how many nats the recorded token led `taken`, at least: a token outside the likeliest is below the last."""
    ours = record.log_probabilities[at]
    others = dict(record.alternatives[at]) if at < len(record.alternatives) else {}
    if ours is None or not others:
        return None
    return max(0.0, ours - others.get(taken, min(others.values())))


def _chance(record: TokenAnswer, noise: float) -> float:
    """Probability at most that a sound start answers otherwise."""
    same = 1.0
    for token, ours, others in zip(record.tokens, record.log_probabilities, record.alternatives, strict=True):
        rivals = [value for text, value in others if text != token]
        if ours is not None and rivals:
            same *= 1 - exp(-max(0.0, ours - max(rivals)) / (2 * noise)) / 2
    return 1 - same


def _unlikely(
    rows: Sequence[RecordedRow],
    answers: Sequence[TokenAnswer],
    parted: Sequence[Divergence],
    again: Sequence[Divergence],
    noise: float,
) -> list[DriftTest]:
    leads = [(one.lead, row, now) for one, row, now in zip(parted, rows, answers, strict=True) if one.lead is not None]
    tokens = max(2, sum(len(row.record.tokens) for row in rows))
    widen = log(tokens / FALSE_ALARM)
    repeated = max((one.lead for one in again if one.lead is not None), default=0.0)
    limit = max(2 * noise * widen, repeated * widen / log(tokens))
    lead, row, now = max(leads, key=lambda one: one[0], default=(0.0, None, None))
    example = _example(row, now) if row and now and lead > limit else ""
    meaning = "nats by which the evaluated engine preferred another token to the one taken now"
    return [DriftTest("unlikely_token", round(lead, 4), round(limit, 4), lead <= limit, meaning, example)]


def _mean_difference(
    kind: str, rows: Sequence[RecordedRow], parted: Sequence[Divergence], noise: float
) -> list[DriftTest]:
    """Of one kind of rows: a fault that comes with length would be thinned by short answers."""
    pairs = [(one, row) for one, row in zip(parted, rows, strict=True) if row.kind == kind]
    every = [value for one, _ in pairs for value in one.differences]
    if len(every) < LEAST_TOKENS:
        return []
    mean = sum(every) / len(every)
    worst, row = max(pairs, key=lambda pair: max(pair[0].differences, default=0.0))
    example = f"one in row {row.id} by {max(worst.differences):.3g}" if mean > noise else ""
    meaning = f"nats by which {len(every)} log-probabilities of {kind} answers are off on average"
    return [DriftTest("log_probability", round(mean, 6), round(noise, 6), mean <= noise, meaning, example)]


def _unequal(
    rows: Sequence[RecordedRow],
    answers: Sequence[TokenAnswer],
    parted: Sequence[Divergence],
    again: Sequence[Divergence],
    noise: float | None,
) -> DriftTest:
    differing, repeated = sum(not one.equal for one in parted), sum(not one.equal for one in again)
    limit = most_again(repeated, len(again), len(rows)) if again else len(rows) - 1
    if noise is not None:
        by_chance = most_unequal([_chance(row.record, noise) for row in rows])
        limit = by_chance if repeated <= by_chance else max(limit, by_chance)
    first = next(((row, now) for one, row, now in zip(parted, rows, answers, strict=True) if not one.equal), None)
    example = _example(*first) if first and differing > limit else ""
    meaning = f"of {len(rows)} answers are not those that were recorded"
    return DriftTest("unequal", differing, limit, differing <= limit, meaning, example)


def _of_form(
    name: str,
    what: str,
    rows: Sequence[RecordedRow],
    answers: Sequence[TokenAnswer],
    has: Callable[[TokenAnswer], bool],
    alarm: float = FALSE_ALARM,
) -> DriftTest:
    recorded = [has(answer) for row in rows for answer in row.answers]
    now = [has(answer) for answer in answers]
    limit = most_again(sum(recorded), len(recorded), len(now), alarm)
    bad = next((pair for pair, is_one in zip(zip(rows, answers, strict=True), now, strict=True) if is_one), None)
    passed = sum(now) <= limit
    meaning = f"of {len(now)}: {what}; {sum(recorded)} of {len(recorded)} were when it was evaluated"
    return DriftTest(name, sum(now), limit, passed, meaning, _example(*bad) if bad and not passed else "")


def _slow(rows: Sequence[RecordedRow], answers: Sequence[TokenAnswer], slowest: float | None) -> DriftTest:
    recorded = median(answer.seconds / max(1, answer.count) for row in rows for answer in row.answers)
    now = median(answer.seconds / max(1, answer.count) for answer in answers)
    factor = now / recorded if recorded > 0 else 1.0
    meaning = f"times the recorded {recorded:.3g} s a token"
    return DriftTest("slow", round(factor, 3), slowest, slowest is None or factor <= slowest, meaning)


def _by_kind(
    rows: Sequence[RecordedRow], answers: Sequence[TokenAnswer]
) -> list[tuple[str, list[RecordedRow], list[TokenAnswer]]]:
    pairs = list(zip(rows, answers, strict=True))
    kinds = sorted({row.kind for row in rows})
    return [(k, [r for r, _ in pairs if r.kind == k], [a for r, a in pairs if r.kind == k]) for k in kinds]


def _loops(answer: TokenAnswer) -> bool:
    share = repeated_share(answer.text[-TAIL:])  # a loop is where an answer ends, however long it was sound before
    return share is not None and share >= LOOPS


def _example(row: RecordedRow, now: TokenAnswer) -> str:
    """The row with both answers from a little before the place where they part."""
    then = row.record.text
    shorter = min(len(then), len(now.text))
    at = next((i for i in range(shorter) if then[i] != now.text[i]), shorter)
    begin = max(0, at - SHOWN // 4)
    recorded, given = (repr(text[begin : begin + SHOWN]) for text in (then, now.text))
    return f"row {row.id} at character {begin}: recorded {recorded}, now {given} (finish {now.finish})"
