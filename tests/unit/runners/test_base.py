"""Following a job: an interruption cancels it, with its whole time to save unless a person insists."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.runners.base import Job, Outcome, State, follow


class Terminated(BaseException):
    """What an orchestrator raises for SIGTERM."""


class Scripted:
    """A runner whose calls raise what the script says, in turn; `stops` are the seconds that each cancel gave the
    job."""

    def __init__(
        self, *, submit: BaseException | None = None, poll: BaseException, cancel: list[BaseException]
    ) -> None:
        self._submit, self._poll, self._cancel = submit, poll, cancel
        self.stops: list[float] = []

    def submit(self, job: Job) -> bool:
        if self._submit:
            raise self._submit
        return False

    def poll(self, job: Job) -> Outcome | None:
        raise self._poll

    def cancel(self, job: Job) -> Outcome:
        self.stops.append(job.stop_s)
        if self._cancel:
            raise self._cancel.pop(0)
        return Outcome(State.CANCELLED, None)

    def forget(self, job: Job) -> None:
        raise AssertionError("a cancelled job is not forgotten")


def job(tmp_path: Path) -> Job:
    return Job("train-1", ("true",), tmp_path, stop_s=7.0)


def test_a_further_sigterm_does_not_shorten_the_time_to_save(tmp_path: Path) -> None:
    runner = Scripted(poll=Terminated("first"), cancel=[Terminated("second")])
    with pytest.raises(Terminated, match="first"):
        follow(runner, job(tmp_path), lambda: None)
    assert runner.stops == [7.0, 7.0]


def test_a_second_ctrl_c_kills_the_job_and_the_first_is_what_ends_the_flow(tmp_path: Path) -> None:
    runner = Scripted(poll=KeyboardInterrupt("first"), cancel=[KeyboardInterrupt("second")])
    with pytest.raises(KeyboardInterrupt, match="first"):
        follow(runner, job(tmp_path), lambda: None)
    assert runner.stops == [7.0, 0.0]


def test_an_interruption_while_the_job_is_started_cancels_it(tmp_path: Path) -> None:
    runner = Scripted(submit=KeyboardInterrupt(), poll=AssertionError("not followed"), cancel=[])
    with pytest.raises(KeyboardInterrupt):
        follow(runner, job(tmp_path), lambda: None)
    assert runner.stops == [7.0]


def test_a_job_that_could_not_be_started_is_not_cancelled(tmp_path: Path) -> None:
    runner = Scripted(submit=OSError("no such program"), poll=AssertionError("not followed"), cancel=[])
    with pytest.raises(OSError, match="no such program"):
        follow(runner, job(tmp_path), lambda: None)
    assert runner.stops == []


@pytest.mark.parametrize(
    ("outcome", "outside"),
    [
        (Outcome(State.FAILED, -9), True),  # killed
        (Outcome(State.FAILED, 137), True),  # the same, as a container's engine says it
        (Outcome(State.FAILED, -15), True),
        (Outcome(State.NODE_FAIL, None), True),
        (Outcome(State.PREEMPTED, None), True),
        (Outcome(State.LOST, None), True),
        (Outcome(State.FAILED, -11), False),  # a fault of its own
        (Outcome(State.FAILED, 1), False),
        (Outcome(State.FAILED, None), False),
        (Outcome(State.OUT_OF_MEMORY, 137), False),  # its limit stays what it is
        (Outcome(State.TIMEOUT, None), False),
        (Outcome(State.CANCELLED, -15), False),  # somebody wanted that
        (Outcome(State.DONE, 0), False),
    ],
)
def test_what_ends_a_job_from_outside(outcome: Outcome, outside: bool) -> None:
    assert outcome.from_outside == outside
