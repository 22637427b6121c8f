"""What is done when a service job moves: every case of the decision, then a follower on a scripted controller."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.slurm.commands import ServiceJob
from slipway.agent.slurm.engine import Registration, SlurmService, SlurmSettings
from slipway.agent.slurm.follow import Attempt, Follower, Hands, decide
from slipway.agent.slurm.node import register
from tests.support.slurm_commands import SlurmCommands

SETTINGS = SlurmSettings(successor_s=600, unhealthy_s=60)


def registration(job: int, restart: int = 0) -> Registration:
    return Registration(job, restart, "127.0.0.1", 20000 + job)


def attempt(
    job: int, restart: int = 0, answers: bool = True, left_s: float | None = 5000, silent_s: float | None = None
) -> Attempt:
    """A job that runs and is registered."""
    state = ServiceJob(job, "RUNNING", restart, "n1", "", left_s)
    return Attempt(state, registration(job, restart), answers, 0.0 if answers else silent_s)


def waiting(job: int) -> Attempt:
    return Attempt(ServiceJob(job, "PENDING", 0, "", "Resources", 5000))


def test_without_a_job_one_is_submitted() -> None:
    assert decide([], registration(1), SETTINGS).what == "submit"


def test_the_first_engine_that_answers_is_pointed_at() -> None:
    decision = decide([attempt(1)], None, SETTINGS)
    assert (decision.what, decision.to) == ("point", registration(1))


def test_a_requeued_job_is_followed_when_it_answers_and_not_before() -> None:
    assert decide([attempt(1, 1, answers=False)], registration(1, 0), SETTINGS).what == "wait"
    decision = decide([attempt(1, 1)], registration(1, 0), SETTINGS)
    assert (decision.what, decision.to) == ("point", registration(1, 1))
    assert "attempt 1.1 answers" in decision.why


def test_near_the_limit_a_successor_is_submitted_once() -> None:
    assert decide([attempt(1, left_s=599)], registration(1), SETTINGS).what == "submit"
    assert decide([attempt(1, left_s=601)], registration(1), SETTINGS).what == "wait"
    assert decide([attempt(1, left_s=None)], registration(1), SETTINGS).what == "wait"
    assert decide([attempt(1, left_s=1), waiting(2)], registration(1), SETTINGS).what == "wait"


def test_a_successor_takes_over_and_then_the_job_before_it_is_cancelled() -> None:
    both = [attempt(1, left_s=100), attempt(2)]
    decision = decide(both, registration(1), SETTINGS)
    assert (decision.what, decision.to) == ("point", registration(2))
    decision = decide(both, registration(2), SETTINGS)
    assert (decision.what, decision.job) == ("cancel", 1)


def test_a_successor_that_stopped_answering_gives_the_requests_back() -> None:
    attempts = [attempt(1, left_s=100), attempt(2, answers=False, silent_s=5)]
    decision = decide(attempts, registration(2), SETTINGS)
    assert (decision.what, decision.to) == ("point", registration(1))


def test_an_engine_that_stands_still_is_requeued_and_one_that_loads_is_not() -> None:
    decision = decide([attempt(1, answers=False, silent_s=61)], registration(1), SETTINGS)
    assert (decision.what, decision.job) == ("requeue", 1)
    assert decide([attempt(1, answers=False, silent_s=59)], registration(1), SETTINGS).what == "wait"
    assert decide([attempt(1, answers=False)], None, SETTINGS).what == "wait"


class Scene:
    """A follower whose controller is scripted and whose hands write down what they did."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slurm = SlurmCommands(root / "bin", monkeypatch)
        self.release = root / "releases/0001-00000000"
        self.release.mkdir(parents=True)
        self.service = SlurmService(root, SETTINGS)
        self.now, self.healthy = 0.0, True
        self.done: list[str] = []
        hands = Hands(
            lambda _: self.healthy,
            lambda to: self.done.append(f"point {to.token}"),
            self.submit,
            lambda: self.done.append("hold"),
        )
        self.follower = Follower(self.service, SETTINGS, hands, {}, lambda: self.now)

    def submit(self) -> int:
        self.done.append("submit")
        return 8

    def jobs(self, *numbers: int) -> None:
        text = "".join(f"{n}\n" for n in numbers)
        self.slurm.answer("squeue", text, f"--noheader --name={self.service.job_name('0001-00000000')} --format=%A")

    def registers(self, job: int, restart: int) -> None:
        register(self.release / "slurm/registered", job, restart, 20000 + job)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def test_a_follower_points_at_the_attempt_of_the_controller_only(scene: Scene) -> None:
    scene.jobs(7)
    scene.registers(7, 0)
    scene.slurm.job(7, restarts=1)  # requeued; the old process is registered and healthy still
    assert scene.follower.step(scene.release, registration(7, 0)).what == "wait"
    assert scene.done == ["hold"]  # requests wait for the attempt that is coming
    scene.registers(7, 1)
    assert scene.follower.step(scene.release, registration(7, 0)).what == "point"
    assert scene.done == ["hold", "point 7.1"]


def test_a_follower_requeues_what_answered_once_and_then_stood_still(scene: Scene) -> None:
    scene.jobs(7)
    scene.registers(7, 0)
    scene.slurm.job(7)
    pointed = registration(7)
    assert scene.follower.step(scene.release, pointed).what == "wait"
    scene.healthy, scene.now = False, 59.0
    assert scene.follower.step(scene.release, pointed).what == "wait"
    scene.now = 61.0
    assert scene.follower.step(scene.release, pointed).what == "requeue"
    assert "scontrol requeue 7" in scene.slurm.calls


def test_jobs_that_ended_are_replaced(scene: Scene) -> None:
    scene.jobs(7)
    scene.slurm.job(7, "NODE_FAIL", node="")
    assert scene.follower.step(scene.release, registration(7)).what == "submit"
    assert scene.done == ["hold", "submit"]


def test_a_silent_controller_changes_nothing(scene: Scene) -> None:
    scene.slurm.fail("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    decision = scene.follower.step(scene.release, registration(7))
    assert decision.what == "wait"
    assert "Slurm controller" in decision.why
    assert scene.done == []
