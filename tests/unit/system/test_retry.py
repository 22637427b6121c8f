"""Again while nobody answers: growing pauses, an end by time or by tries, and answers that pass at once."""

from __future__ import annotations

import pytest

from slipway.system import retry
from slipway.system.retry import until_answered


class Clock:
    """Time that only sleeping moves; `pauses` are the sleeps."""

    def __init__(self):
        self.now, self.pauses = 0.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    return clock


def silent_for(tries):
    calls = []

    def call():
        calls.append(1)
        if len(calls) <= tries:
            raise TimeoutError(f"silence {len(calls)}")
        return len(calls)

    return call


def test_pauses_grow_to_the_longest(clock):
    assert until_answered(silent_for(6), TimeoutError, pause_s=0.5, longest_pause_s=3) == 7
    assert clock.pauses == [0.5, 1, 2, 3, 3, 3]


def test_the_last_silence_is_raised_when_the_time_is_up(clock):
    with pytest.raises(TimeoutError, match="silence 4"):
        until_answered(silent_for(99), TimeoutError, seconds=7.5, pause_s=1)
    assert clock.now == 7


def test_no_time_at_all_is_one_call(clock):
    with pytest.raises(TimeoutError, match="silence 1"):
        until_answered(silent_for(99), TimeoutError, seconds=0)
    assert clock.pauses == []


def test_tries_are_counted_calls(clock):
    assert until_answered(silent_for(2), TimeoutError, tries=3) == 3
    with pytest.raises(TimeoutError, match="silence 3"):
        until_answered(silent_for(99), TimeoutError, tries=3)


def test_another_exception_is_an_answer(clock):
    def refuse():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        until_answered(refuse, (TimeoutError, KeyError))
    assert clock.pauses == []
