"""A job that makes room: its runner ends it, with its time to save, when more urgent work waits for the machine."""

from __future__ import annotations

from collections.abc import Callable

from slipway.errors import StageKilledError
from slipway.runners.base import Address, Job, Outcome, Runner


class PreemptedError(StageKilledError):
    """A job was ended at its checkpoint so that more urgent work could begin; run again it goes on from there."""


class YieldingRunner:
    """`runner`, whose `poll` raises PreemptedError when `wanted` names somebody: `follow` then cancels the job."""

    def __init__(self, runner: Runner, wanted: Callable[[], str]) -> None:
        self._runner, self._wanted = runner, wanted

    def submit(self, job: Job) -> bool:
        """As the runner does."""
        return self._runner.submit(job)

    def poll(self, job: Job) -> Outcome | None:
        """As the runner does. Raises PreemptedError while it runs and somebody else is to go first."""
        ended = self._runner.poll(job)
        if ended is None and (who := self._wanted()):
            raise PreemptedError(f"job {job.name}", f"made room for {who}", "its checkpoint", "it goes on afterwards")
        return ended

    def cancel(self, job: Job) -> Outcome:
        """As the runner does."""
        return self._runner.cancel(job)

    def forget(self, job: Job) -> None:
        """As the runner does."""
        self._runner.forget(job)

    def address(self, job: Job, port: int) -> Address | None:
        """As the runner does."""
        return self._runner.address(job, port)
