"""The trainer's container on a machine behind ssh that gets copies: none of the job's own folders is mounted."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.runners.base import Job, State
from slipway.runners.choose import runner_for
from slipway.runners.staging import StagedRunner
from slipway.store.artifacts import Dataset
from slipway.store.store import Store, load
from tests.lab.podman_lab import INFRA, PodmanLab

DEADLINE_S = 120


@pytest.fixture
def address(podman_lab: PodmanLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """ssh:// of the lab's engine; OpenSSH's client, which does not look at HOME, gets the lab's configuration."""
    command = [INFRA / "podman" / "ssh-up", podman_lab.folder]
    up = subprocess.run(command, env=podman_lab.env, capture_output=True, text=True, check=False)
    if up.returncode == 4:
        pytest.skip(f"lab podman: ssh: not run: {up.stderr.strip()}")
    assert up.returncode == 0, up.stderr
    home, programs = podman_lab.folder / "ssh" / "home", tmp_path / "bin"
    programs.mkdir()
    known = f"-o UserKnownHostsFile={home}/.ssh/known_hosts"
    (programs / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {home}/.ssh/config {known} "$@"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    yield up.stdout.split()[1]
    subprocess.run([*command, "down"], env=podman_lab.env, check=True)


def _runner(lab: PodmanLab, address: str, far: Path) -> StagedRunner:
    target = lab.target(address)
    params = target.runner.model_copy(update={"staging": str(far)})
    runner = runner_for(target.model_copy(update={"runner": params}), lab.image)
    assert isinstance(runner, StagedRunner)
    return runner


def _with_data_as_artifact(job: Job, tmp_path: Path) -> Job:
    """The job with its data in a store, as a stage has it."""
    store = Store(tmp_path / "store")
    (data,) = [mount for mount in job.mounts if mount.target == "/data"]
    with store.create(Dataset, "d", {}) as out:
        (out / "train.jsonl").write_bytes((data.source / "train.jsonl").read_bytes())
    mounts = [m if m is not data else type(m)(store.dir("dataset", "d"), "/data") for m in job.mounts]
    return type(job)(**{**job.__dict__, "mounts": tuple(mounts)})


def test_a_training_reads_copies_and_its_checkpoints_come_back(
    podman_lab: PodmanLab, address: str, tmp_path: Path
) -> None:
    far = podman_lab.folder / "far" / "slipway"
    job = _with_data_as_artifact(podman_lab.training(tmp_path / "work", "staged", max_steps=6, step_s=0.05), tmp_path)
    runner = _runner(podman_lab, address, far)
    assert runner.submit(job) is False
    described = json.loads(podman_lab.podman("inspect", job.name))[0]
    sources = {mount["Source"] for mount in described["Mounts"] if mount["Type"] == "bind"}
    digest = load(Dataset, tmp_path / "store/dataset/d").digest
    assert str(far / "inputs" / digest) in sources
    assert all(source.startswith(f"{far}/") for source in sources if source.startswith("/tmp/")), sources
    deadline = time.monotonic() + DEADLINE_S
    adopted = _runner(podman_lab, address, far)  # the orchestrator was killed: another goes on
    assert adopted.submit(job) is True
    while (ended := adopted.poll(job)) is None:
        assert time.monotonic() < deadline, "the training did not end"
        time.sleep(0.2)
    assert ended.state is State.DONE, (ended, job.log.read_text()[-2000:])
    there = far / "jobs" / job.name
    fetched = tmp_path / "work" / "ckpt"
    assert sorted(p.name for p in fetched.iterdir()) == sorted(p.name for p in next(there.glob("*")).iterdir())
    assert [json.loads(line)["step"] for line in (fetched / "training.jsonl").read_text().splitlines()][-1] == 5
    adopted.forget(job)
