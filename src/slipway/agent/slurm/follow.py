"""Keeping the proxy on a service job that moves: requeues, successors before the time limit, jobs that Slurm lost.

`decide` is a pure function of what the controller says and of who answers; `Follower.step` carries out one decision. It
is called every few seconds by a unit on the login host, and leaves a target alone while a transaction holds its lock.
A controller that does not answer changes nothing: the engines go on, and so does the proxy.

    no job of the release            submit one
    a younger attempt answers        point the proxy at it, drain, cancel the jobs before it
    the limit comes near             submit a successor; it takes over when it answers
    an engine stands still           requeue its job
    anything else                    wait
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slipway.agent.slurm.commands import ServiceJob, SilentError
from slipway.agent.slurm.engine import Registration, SlurmService, SlurmSettings

What = Literal["submit", "point", "cancel", "requeue", "wait"]


@dataclass(frozen=True)
class Attempt:
    """A job of the serving release, as just seen. `registration`: of the attempt that the controller counts; `answers`:
    its engine is healthy; `silent_s`: seconds since it last answered, null before it ever did."""

    job: ServiceJob
    registration: Registration | None = None
    answers: bool = False
    silent_s: float | None = None


@dataclass(frozen=True)
class Decision:
    """One thing to do, and why in a sentence for the log. `to`: where to point; `job`: which to cancel or requeue."""

    what: What
    why: str
    to: Registration | None = None
    job: int = 0


def decide(attempts: Sequence[Attempt], pointed: Registration | None, settings: SlurmSettings) -> Decision:
    """What to do now. `attempts`: jobs of the release that wait or run, oldest first; `pointed`: where the proxy
    points."""
    if not attempts:
        return Decision("submit", "no job of the serving release waits or runs")
    answering = [one.registration for one in attempts if one.answers and one.registration]
    if answering and (pointed is None or answering[-1] != pointed):
        newest = answering[-1]
        was = f"; {pointed.token} did before" if pointed else ""
        return Decision("point", f"attempt {newest.token} answers at {newest.host}:{newest.port}{was}", to=newest)
    if pointed in answering and attempts[0].registration != pointed:
        older = attempts[0].job.job
        return Decision("cancel", f"job {older} has a successor that serves, {pointed.token}", job=older)
    for one in attempts:
        if one.job.runs and one.silent_s is not None and one.silent_s > settings.unhealthy_s:
            return Decision(
                "requeue", f"job {one.job.job} runs and has not answered for {one.silent_s:.0f} s", job=one.job.job
            )
    last = attempts[-1].job
    if len(attempts) == 1 and last.runs and last.left_s is not None and last.left_s < settings.successor_s:
        return Decision("submit", f"job {last.job} ends in {last.left_s:.0f} s at its time limit")
    return Decision("wait", f"{len(attempts)} jobs, nothing to change")


def is_lost(attempts: Sequence[Attempt], pointed: Registration | None) -> bool:
    """Whether the attempt that the proxy points at is over and nobody else answers yet. An engine that only is slow to
    answer keeps its requests."""
    counted = [one.registration for one in attempts if one.registration]
    return pointed is not None and pointed not in counted and not any(one.answers for one in attempts)


@dataclass(frozen=True)
class Hands:
    """What a follower does things with: `answers` asks an engine's health, `point` makes the proxy send new requests
    there and waits until the engine before has none, `submit` starts another job of the release, `hold` lets requests
    wait while nobody answers."""

    answers: Callable[[Registration], bool]
    point: Callable[[Registration], None]
    submit: Callable[[], int]
    hold: Callable[[], object] = lambda: None


class Follower:
    """Follows the jobs of the serving release."""

    def __init__(
        self,
        service: SlurmService,
        settings: SlurmSettings,
        hands: Hands,
        answered: dict[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`answered`: token -> when its engine last answered by `clock`; written here, kept by the caller."""
        self._service, self._settings, self._hands, self._clock = service, settings, hands, clock
        self._answered = answered

    def step(self, release: Path, pointed: Registration | None) -> Decision:
        """Look, decide, and do one thing for the release in this folder; `pointed`: where the proxy points. Raises what
        `Hands` and the commands raise; a silent controller is a decision to wait."""
        try:
            attempts = self.attempts(release)
            decision = decide(attempts, pointed, self._settings)
            if is_lost(attempts, pointed):
                self._hands.hold()
            self._carry_out(decision, release)
        except SilentError as err:
            return Decision("wait", str(err))
        return decision

    def attempts(self, release: Path) -> list[Attempt]:
        """The jobs of a release as they are now, oldest first. Raises SilentError."""
        seen = []
        for number in self._service.jobs(release):
            job = self._service.state(number)
            if job is None or job.ended:
                continue
            registration = self._service.registration(release, number) if job.runs else None
            answers = registration is not None and self._hands.answers(registration)
            if registration and answers:
                self._answered[registration.token] = self._clock()
            last = self._answered.get(registration.token) if registration else None
            seen.append(Attempt(job, registration, answers, None if last is None else self._clock() - last))
        return seen

    def _carry_out(self, decision: Decision, release: Path) -> None:
        if decision.what == "submit":
            self._hands.submit()
        elif decision.what == "point" and decision.to:
            self._hands.point(decision.to)
        elif decision.what == "cancel":
            self._service.cancel_job(release, decision.job)
        elif decision.what == "requeue":
            self._service.requeue(decision.job)
