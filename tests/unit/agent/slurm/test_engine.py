"""Service jobs by Slurm's commands: what is submitted, whose address counts, what is cancelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.slurm.commands import ALIVE
from slipway.agent.slurm.engine import SlurmService, SlurmSettings, enroot_name, slurm_settings
from slipway.agent.slurm.node import register
from slipway.errors import ConfigError, StateError
from tests.support.slurm_commands import SlurmCommands

START: dict[str, Any] = {
    "argv": ["/root/engine/bin/llama-server", "--host", "{host}", "--port", "{port}"],
    "environment": {"A": "b"},
    "stop_s": 12.5,
}
IMAGE = "registry.example:5000/vllm@sha256:" + "a" * 64


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCommands:
    return SlurmCommands(tmp_path / "bin", monkeypatch)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "root/releases/0007-3fa9c1d2"
    folder.mkdir(parents=True)
    return folder


def service(release: Path, **more: Any) -> SlurmService:
    return SlurmService(release.parents[1], SlurmSettings(**more))


def test_a_job_is_submitted_with_all_that_its_node_needs(slurm: SlurmCommands, release: Path) -> None:
    slurm.answer("sbatch", "41;cluster\n")
    job = service(release, partition="batch", gpus=2, extra=("--exclusive",)).submit(release, START)
    assert job == 41
    script = (release / "slurm/job.sbatch").read_text()
    for option in ("--requeue", "--partition=batch", "--exclusive", "--gpus-per-node=2", "--signal=B:USR1@60"):
        assert f"#SBATCH {option}\n" in script
    assert "--account" not in script
    assert script.splitlines()[-1] == f"exec python3 {release}/slurm/slurm_node.py {release}/slurm"
    document = json.loads((release / "slurm/job.json").read_text())
    assert document["argv"] == START["argv"]
    assert document["key_variables"] == []
    assert "def main(folder: Path)" in (release / "slurm/slurm_node.py").read_text()


def test_an_engine_in_an_image_runs_through_pyxis_by_digest(slurm: SlurmCommands, release: Path) -> None:
    slurm.answer("sbatch", "41\n")
    start = {**START, "image": IMAGE, "mounts": ["/root/engine:/slipway/bundle:ro", "/c:/slipway/cache"]}
    service(release).submit(release, start)
    words = json.loads((release / "slurm/job.json").read_text())["argv"]
    assert words[0] == "srun"
    assert f"--container-image=registry.example:5000#vllm:sha256:{'a' * 64}" in words
    assert "--container-mounts=/root/engine:/slipway/bundle:ro,/c:/slipway/cache" in words
    assert words[-5:] == START["argv"]
    service(release).submit(release, {**start, "key_variables": ["VLLM_API_KEY"]})
    document = json.loads((release / "slurm/job.json").read_text())
    assert document["key_variables"] == ["VLLM_API_KEY"]
    assert "--container-env=A,VLLM_API_KEY" in document["argv"]  # its value is made on the node
    service(release, container=False).submit(release, start)
    assert json.loads((release / "slurm/job.json").read_text())["argv"] == START["argv"]
    with pytest.raises(ConfigError, match="an image by digest"):
        enroot_name("registry.example/vllm:1")


def test_only_the_attempt_that_the_controller_counts_has_an_address(slurm: SlurmCommands, release: Path) -> None:
    """An engine that outlived its node's daemon is registered and healthy; the job was requeued: not its address."""
    folder = release / "slurm/registered"
    register(folder, 41, 0, 20001)
    slurm.job(41)
    assert service(release).registration(release, 41) is not None
    slurm.job(41, restarts=1)
    assert service(release).registration(release, 41) is None
    register(folder, 41, 1, 20002)
    registration = service(release).registration(release, 41)
    assert registration is not None
    assert (registration.token, registration.host, registration.port) == ("41.1", "127.0.0.1", 20002)
    assert registration.key_file == ""
    register(folder, 41, 1, 20002, asks=True)
    registration = service(release).registration(release, 41)
    assert registration is not None
    assert registration.key_file == f"{release}/slurm/keys/41.1"
    slurm.job(41, "PENDING", restarts=2, node="")
    assert service(release).registration(release, 41) is None


def test_a_registration_that_cannot_be_read_is_named(slurm: SlurmCommands, release: Path) -> None:
    slurm.job(41)
    (release / "slurm/registered").mkdir(parents=True)
    (release / "slurm/registered/41.0").write_text('{"port": "x"}')
    with pytest.raises(StateError, match="port: x"):
        service(release).registration(release, 41)


def test_cancelling_leaves_a_mark_for_a_process_that_slurm_cannot_reach(slurm: SlurmCommands, release: Path) -> None:
    own = service(release)
    slurm.answer("squeue", "41\n42\n", f"--noheader --name={own.job_name(release.name)} --format=%A")
    slurm.answer("squeue", "41\n42\n", f"--noheader --name={own.job_name(release.name)} --states={ALIVE} --format=%A")
    assert own.cancel(release, but=42) == [41]
    assert [path.name for path in (release / "slurm/over").iterdir()] == ["41"]
    assert slurm.calls[-1] == "scancel 41"


def test_jobs_of_another_target_are_not_ours(slurm: SlurmCommands, release: Path) -> None:
    own, other = service(release), SlurmService(release, SlurmSettings())
    jobs = [own.job_name("0001-00000000"), other.job_name("0002-00000000"), own.job_name("nonsense"), "x"]
    slurm.answer("squeue", "\n".join(jobs), f"--me --noheader --states={ALIVE} --format=%j")
    assert own.releases_that_run() == {"0001-00000000"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"partitions": "x"}, "key partitions"),
        ({"time_limit": "soon"}, "time_limit"),
        ({"time_limit": "01:00:00", "successor_s": 3600}, "successor_s: 3600 of a time limit of 3600 s"),
        ({"container": "yes"}, "container"),
        ({"tls": {"certificate": "/c.pem"}}, "key: absent"),
    ],
)
def test_settings_that_do_not_fit_are_named(document: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, StateError), match=message):
        slurm_settings(document)


def test_no_section_means_no_slurm() -> None:
    assert slurm_settings({}) is None
    assert slurm_settings({"time_limit": "2-00:00:00"}) == SlurmSettings(time_limit="2-00:00:00")
