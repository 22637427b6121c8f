"""Decisions of the docker runner that need no engine: an engine that is away, and a name that is somebody else's.

tests/lab/runners/test_docker.py has the real engine.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from slipway.config.image import ImageConfig
from slipway.config.target import DockerConfig, TargetConfig
from slipway.containers.docker_client import UnreachableError
from slipway.errors import ConfigError, ResourceError, StateError
from slipway.runners import docker
from slipway.runners.base import Job, State
from slipway.runners.docker import JOB_FILE, DockerRunner
from slipway.runners.docker_container import JOB

IMAGE = ImageConfig(repository="nvcr.io/nvidia/nemo", tag="1", digests={"amd64": "sha256:" + "a" * 64})
RUNNING = {"Id": "c1", "State": {"Status": "running"}}
ENDED = {
    "Id": "c1",
    "State": {
        "Status": "exited",
        "ExitCode": 3,
        "StartedAt": "2026-11-25T10:00:00.0Z",
        "FinishedAt": "2026-11-25T10:01:00.5Z",
    },
}


class Clock:
    """Time that only the test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(docker, "time", clock)
    return clock


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> DockerRunner:
    runner = DockerRunner(DockerConfig(kind="docker", host="tcp://spark:2375"), TargetConfig(), IMAGE, patience_s=60)
    log = SimpleNamespace(keep_up=lambda: None, finish=lambda: None, stop=lambda: None)
    monkeypatch.setattr(docker, "ContainerLog", lambda *_: log)
    return runner


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job("slipway-train-1", ("true",), tmp_path)


def answers(monkeypatch: pytest.MonkeyPatch, runner: DockerRunner, *described: object) -> list[object]:
    """What the engine answers to the next questions; an exception is raised."""
    left = list(described)

    def ask(_call: object) -> object:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(runner._engine, "ask", ask)
    return left


def test_an_engine_that_is_away_for_a_while_is_still_running(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, runner: DockerRunner, job: Job
) -> None:
    left = answers(monkeypatch, runner, RUNNING, UnreachableError("gone"), UnreachableError("gone"), ENDED)
    assert runner.poll(job) is None
    assert runner.poll(job) is None and len(left) == 2
    assert runner.poll(job) is None and len(left) == 2, "it is not asked again at once"
    clock.now += 10
    assert runner.poll(job) is None and len(left) == 1
    clock.now += 10
    ended = runner.poll(job)
    assert ended is not None
    assert (ended.state, ended.code, ended.seconds) == (State.FAILED, 3, 60.5)
    assert runner.poll(job) is ended, "an outcome stays"


def test_an_engine_that_stays_away_ends_the_following_and_not_the_container(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, runner: DockerRunner, job: Job
) -> None:
    answers(monkeypatch, runner, UnreachableError("gone"), UnreachableError("gone"))
    assert runner.poll(job) is None
    clock.now += 61
    with pytest.raises(ResourceError, match=r"docker engine tcp://spark:2375: no answer for 61 s.*is adopted"):
        runner.poll(job)


def test_a_container_of_this_name_that_is_not_slipways_is_refused(
    monkeypatch: pytest.MonkeyPatch, runner: DockerRunner, job: Job
) -> None:
    stranger = SimpleNamespace(labels={}, status="running", id="x")
    monkeypatch.setattr(runner._engine, "ask_until_answered", lambda call, seconds: stranger)
    with pytest.raises(ConfigError, match=r"container slipway-train-1: not Slipway's; expected a free name"):
        runner.submit(job)


def test_a_container_that_was_made_and_never_started_is_started_and_adopted(
    monkeypatch: pytest.MonkeyPatch, runner: DockerRunner, job: Job
) -> None:
    ours = SimpleNamespace(labels={JOB: job.name}, status="created", id="c1")
    started: list[str] = []
    client = SimpleNamespace(
        containers=SimpleNamespace(get=lambda name: ours), api=SimpleNamespace(start=started.append)
    )
    monkeypatch.setattr(runner._engine, "ask_until_answered", lambda call, seconds: call(client))
    assert runner.submit(job) is True
    assert started == ["c1"]


def test_the_log_of_a_new_container_begins_where_the_last_one_ended(runner: DockerRunner, job: Job) -> None:
    job.log.write_text("of the attempt before\n")
    assert runner._note(job, "c1") == 22
    job.log.write_text("of the attempt before\nand of this one\n")
    assert runner._note(job, "c1") == 22, "recorded before the first byte was copied"
    assert runner._note(job, "c2") == 38


@pytest.mark.parametrize("text", ["", "[1]", "{", "\0"])
def test_a_record_that_is_garbage_is_one_error(runner: DockerRunner, job: Job, text: str) -> None:
    (job.work / JOB_FILE).write_text(text)
    with pytest.raises(StateError, match=rf"record of a job: {job.work / JOB_FILE}.*delete"):
        runner._note(job, "c1")


def test_the_record_is_json_with_the_container(runner: DockerRunner, job: Job) -> None:
    runner._note(job, "c1")
    assert json.loads((job.work / JOB_FILE).read_text()) == {"container": "c1", "log_from": 0}
