from __future__ import annotations

from math import log

import pytest

from slipway.engines.probability_client import TokenAnswer
from slipway.evaluation.answer_drift import ASSUMED_ROUNDING, Drift, divergence, judge_drift, noise_of
from slipway.evaluation.kernel_agreement import RATIO
from slipway.evaluation.prediction_limits import FALSE_ALARM
from slipway.evaluation.recorded_answers import RecordedRow

WORDS = tuple(f"word{i}" for i in range(20))


def answer(
    words: tuple[str, ...] = WORDS, *, lead: float = 3.0, off: float = 0.0, at: int | None = None
) -> TokenAnswer:
    """Words each `lead` nats before the next; all log-probabilities lower by `off`; another word at `at`."""
    pairs = [("door", word) if i == at else (word, "door") for i, word in enumerate(words)]
    words, ours = tuple(word for word, _ in pairs), -0.1 - off
    likeliest = [((word, ours), (other, ours - lead), ("x", ours - lead - 1)) for word, other in pairs]
    return TokenAnswer(
        text=" ".join(words),
        finish="stop",
        tokens=words,
        log_probabilities=(ours,) * len(words),
        alternatives=tuple(tuple(one) for one in likeliest),
        count=len(words),
        seconds=0.1,
    )


def rows(count: int = 10, *, lead: float = 3.0, again: float = 0.001) -> list[RecordedRow]:
    both = [answer(lead=lead), answer(lead=lead, off=again)]
    return [RecordedRow(id=f"r{i}", kind="task", messages=[], max_tokens=40, answers=both) for i in range(count)]


def judged(now: list[TokenAnswer], recorded: list[RecordedRow] | None = None, rounding: float | None = 0.004) -> Drift:
    return judge_drift(recorded or rows(), now, rounding=rounding, slowest=20)


def test_the_same_answers_pass_every_test() -> None:
    drift = judged([answer()] * 10)
    assert drift.failed == [] and drift.tokens == 10 * len(WORDS)
    assert drift.noise == pytest.approx(2 * RATIO.limit * 0.004)


def test_where_answers_part_and_what_they_have_before_and_there() -> None:
    one = divergence(answer(), answer(off=0.25, at=5))
    assert (one.equal, one.lead) == (False, pytest.approx(3.0))
    assert one.before == pytest.approx((0.25,) * 5)
    assert one.there == pytest.approx((2.75, 3.25, 0.25))  # of "door", of the recorded word, of "x"


def test_an_answer_that_ends_early_is_unequal_and_has_no_lead() -> None:
    one = divergence(answer(), answer(WORDS[:7]))
    assert (one.equal, one.lead, len(one.before)) == (False, None, 7)


def test_a_near_tie_that_falls_otherwise_passes_and_one_clear_preference_that_does_not_fails() -> None:
    near = rows(lead=0.01)
    assert judged([answer(lead=0.01, at=3), *[answer(lead=0.01)] * 9], near).failed == []
    failed = judged([answer(at=3), *[answer()] * 9]).failed
    assert [test.name for test in failed] == ["unlikely_token", "log_probability", "unequal"]
    assert failed[0].value == pytest.approx(3.0) and "row r0" in failed[0].example and "door" in failed[0].example
    tokens = 10 * len(WORDS)
    assert failed[0].limit == pytest.approx(2 * 2 * RATIO.limit * 0.004 * log(tokens / FALSE_ALARM), abs=1e-3)


def test_equal_words_with_other_probabilities_fail() -> None:
    failed = judged([answer(off=0.1)] * 10).failed
    assert [test.name for test in failed] == ["log_probability"]
    assert failed[0].value == pytest.approx(0.1)


def test_noise_comes_from_agreement_then_repeats_then_an_assumption_that_is_named() -> None:
    again = [divergence(answer(), answer(off=0.05))]
    assert noise_of(again, 0.001) == (pytest.approx(RATIO.limit * 0.05), "repeats of the evaluation, 0.05 nats a token")
    assert noise_of(again, 0.1)[1].startswith("kernel agreement's rounding of 0.1 nats")
    equal = [divergence(answer(), answer())]
    noise, source = noise_of(equal, None)
    assert noise == pytest.approx(2 * RATIO.limit * ASSUMED_ROUNDING) and source.startswith("assumed")


def test_a_loop_at_the_end_of_a_long_answer_is_seen_after_any_sound_beginning() -> None:
    sound = tuple(f"w{i}" for i in range(400))
    looping = sound[:310] + sound[300:310] * 9
    long = [
        RecordedRow(id=f"l{i}", kind="long", messages=[], max_tokens=400, answers=[answer(sound)]) for i in range(6)
    ]
    assert judged([answer(sound)] * 6, long).failed == []
    failed = judged([answer(looping)] * 6, long).failed
    assert failed[0].name == "loops" and failed[0].value == 6
    assert judged([answer(looping), *[answer(sound)] * 5], long).failed[0].name == "unlikely_token"


def test_answers_that_looped_when_they_were_recorded_may_loop() -> None:
    looping = answer(("a", "b", "c") * 40)
    long = [RecordedRow(id=f"l{i}", kind="long", messages=[], max_tokens=120, answers=[looping]) for i in range(6)]
    assert judged([looping] * 6, long).failed == []


def test_slowness_is_shown_always_and_fails_where_a_limit_is_set() -> None:
    slow = [answer().model_copy(update={"seconds": 5.0})] * 10
    assert [test.name for test in judged(slow).failed] == ["slow"]
    shown = judge_drift(rows(), slow, rounding=None, slowest=None)
    assert shown.failed == [] and next(t for t in shown.tests if t.name == "slow").value == pytest.approx(50)
