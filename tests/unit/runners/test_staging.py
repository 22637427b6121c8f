"""A job on a machine that shares no folder: real rsync and sha256sum, a shell of this machine for ssh's far side.

tests/lab runs the trainer's container through it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.errors import ConfigError, ResourceError
from slipway.runners.base import Address, Job, Mount, Outcome, State
from slipway.runners.staging import COMPLETE, StagedRunner, StagingArea
from slipway.store.artifacts import Dataset
from slipway.store.store import Store, load

FAR_SHELL = """#!/bin/bash
[ -e "$FAR_IS_OFF" ] && echo "ssh: connect to host spark port 22: No route to host" >&2 && exit 255
while :; do case $1 in -o | -p) shift 2 ;; -l) user=$2@ && shift 2 ;; --) shift ;; *) break ;; esac; done
[ "$user$1" = me@spark ] || exit 9
shift
exec sh -c "$*"
"""


class Runner:
    """A runner whose job is a function of its mounts."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.ended: Outcome | None = None

    def submit(self, job: Job) -> bool:
        adopted, self.job = self.job is not None, job
        return adopted

    def poll(self, job: Job) -> Outcome | None:
        return self.ended

    def cancel(self, job: Job) -> Outcome:
        return Outcome(State.CANCELLED, 0)

    def forget(self, job: Job) -> None:
        self.job = None

    def address(self, job: Job, port: int) -> Address | None:
        return Address("127.0.0.1", port, "ssh://me@spark")

    def source(self, target: str) -> Path:
        """Where the job sees a mount's files there."""
        assert self.job is not None
        return next(mount.source for mount in self.job.mounts if mount.target == target)


@pytest.fixture
def area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StagingArea:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(FAR_SHELL)
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FAR_IS_OFF", str(tmp_path / "off"))
    return StagingArea("ssh://me@spark:2222", str(tmp_path / "far" / "slipway"))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job that reads data (an artifact) and a recipe (a folder), and writes checkpoints."""
    store = Store(tmp_path / "store")
    with store.create(Dataset, "d", {}) as out:
        (out / "train.jsonl").write_text("{}\n")
        (tmp_path / "elsewhere").write_text("linked")
        (out / "linked").symlink_to(tmp_path / "elsewhere")
    for folder in ("job", "ckpt/step_1"):
        (tmp_path / "work" / folder).mkdir(parents=True)
    (tmp_path / "work/job/recipe.yaml").write_text("steps: 3")
    (tmp_path / "work/ckpt/step_1/weights").write_text("1")
    mounts = (
        Mount(store.dir("dataset", "d"), "/data"),
        Mount(tmp_path, str(tmp_path)),
        Mount(tmp_path / "work/job", "/job"),
        Mount(tmp_path / "work/ckpt", "/ckpt", read_only=False),
    )
    return Job("train-1", ("x",), tmp_path / "work", mounts=mounts)


def test_what_is_read_is_copied_and_what_is_written_is_fetched(area: StagingArea, job: Job, tmp_path: Path) -> None:
    inner = Runner()
    runner = StagedRunner(inner, area, fetch_every_s=0.0)
    assert runner.submit(job) is False
    digest = load(Dataset, job.mounts[0].source).digest
    assert inner.source("/data") == Path(area.folder) / "inputs" / digest
    assert (inner.source("/data") / "linked").read_text() == "linked"
    assert (inner.source("/job") / "recipe.yaml").read_text() == "steps: 3"
    assert {m.target for m in inner.job.mounts} == {"/data", "/job", "/ckpt"}  # type: ignore[union-attr]
    there, here = inner.source("/ckpt"), job.mounts[3].source
    assert (there / "step_1/weights").read_text() == "1"
    (there / "step_2").mkdir()
    (there / "step_2/weights").write_text("half")
    (there / "training.jsonl").write_text("step 2\n")
    assert runner.poll(job) is None
    assert (here / "training.jsonl").read_text() == "step 2\n"
    assert not (here / "step_2").exists(), "a checkpoint that is being written is not here yet"
    (there / "step_2/weights").write_text("whole")
    (there / "step_1/weights").unlink()
    (there / "step_1").rmdir()
    inner.ended = Outcome(State.DONE, 0)
    assert runner.poll(job) == inner.ended
    assert (here / "step_2/weights").read_text() == "whole"
    assert not (here / "step_1").exists(), "what was pruned there is pruned here"
    assert runner.address(job, 80) == Address("127.0.0.1", 80, "ssh://me@spark")


def test_a_second_attempt_copies_no_artifact_and_replaces_nothing_that_is_newer_there(
    area: StagingArea, job: Job
) -> None:
    inner = Runner()
    StagedRunner(inner, area).submit(job)
    mark = inner.source("/data") / COMPLETE
    stamp = mark.stat().st_mtime_ns
    (inner.source("/ckpt") / "step_1/weights").write_text("newer there")
    (job.mounts[2].source / "recipe.yaml").write_text("steps: 4")
    adopted = StagedRunner(inner, area)  # of another process
    assert adopted.submit(job) is True
    assert mark.stat().st_mtime_ns == stamp
    assert (inner.source("/ckpt") / "step_1/weights").read_text() == "newer there"
    assert (inner.source("/job") / "recipe.yaml").read_text() == "steps: 4"
    assert StagedRunner(inner, area).cancel(job).state is State.CANCELLED
    assert (job.mounts[3].source / "step_1/weights").read_text() == "newer there"


def test_an_artifact_that_is_damaged_here_or_on_the_way_starts_no_job(area: StagingArea, job: Job) -> None:
    inner = Runner()
    (job.mounts[0].source / "train.jsonl").write_text("{!\n")
    with pytest.raises(ResourceError, match=r"copy of .*dataset.*train.jsonl: FAILED"):
        StagedRunner(inner, area).submit(job)
    assert inner.job is None
    (job.mounts[0].source / "train.jsonl").write_text("{}\n")
    os.utime(job.mounts[0].source / "train.jsonl", (1, 1))
    StagedRunner(inner, area).submit(job)
    assert (inner.source("/data") / COMPLETE).exists()


def test_a_machine_that_is_off_is_named(area: StagingArea, job: Job, tmp_path: Path) -> None:
    (tmp_path / "off").touch()
    with pytest.raises(ResourceError, match=r"login at ssh://me@spark:2222: .*No route.*ssh -p 2222 me@spark true"):
        StagedRunner(Runner(), area).submit(job)


def test_one_file_is_a_mount_too(area: StagingArea, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    there = Path(area.stage_input(tmp_path / "plan.json"))
    assert (there.name, there.read_text()) == ("plan.json", "{}")
    assert [path.name for path in there.parent.iterdir()] == ["plan.json"]
    (tmp_path / "plan.json").write_text("[1, 2]")
    area.stage_input(tmp_path / "plan.json")
    assert there.read_text() == "[1, 2]"


def test_an_engine_that_is_not_behind_ssh_has_no_staging() -> None:
    with pytest.raises(ConfigError, match=r"target.runner.staging"):
        StagingArea("", "/home/me/slipway")
