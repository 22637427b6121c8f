"""What the agent reads out of Slurm's commands, and that silence is another thing than no."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.slurm.commands import ALIVE, SilentError, named, names, node_address, seconds, service_job
from slipway.errors import ResourceError
from tests.support.slurm_commands import SlurmCommands


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCommands:
    return SlurmCommands(tmp_path / "bin", monkeypatch)


def test_a_job_that_runs(slurm: SlurmCommands) -> None:
    slurm.job(7, restarts=2)
    job = service_job(7)
    assert job is not None
    assert (job.runs, job.ended, job.restarts, job.node) == (True, False, 2, "n1")
    assert job.left_s == 86400 - 600


@pytest.mark.parametrize(
    ("state", "runs", "ended"),
    [("PENDING", False, False), ("COMPLETING", False, False), ("REQUEUED", False, False), ("NODE_FAIL", False, True)],
)
def test_a_job_that_does_not(slurm: SlurmCommands, state: str, runs: bool, ended: bool) -> None:
    slurm.job(7, state, node="")
    job = service_job(7)
    assert job is not None
    assert (job.runs, job.ended) == (runs, ended)


def test_a_job_that_was_forgotten_is_none_and_silence_is_an_error(slurm: SlurmCommands) -> None:
    slurm.fail("scontrol", "slurm_load_jobs error: Invalid job id specified")
    assert service_job(7) is None
    slurm.fail("scontrol", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(SilentError):
        service_job(7)
    slurm.fail("scontrol", "slurm_load_jobs error: Access denied")
    with pytest.raises(ResourceError, match="Access denied"):
        service_job(7)


def test_where_there_is_no_slurm_the_next_step_is_a_login_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="run the target's agent on a login node"):
        service_job(7)


def test_a_nodes_address_is_an_ip_address(slurm: SlurmCommands) -> None:
    slurm.answer("scontrol", "NodeName=n1 NodeAddr=localhost State=IDLE\n", "--oneliner show node n1")
    assert node_address("n1") in ("127.0.0.1", "::1")
    slurm.answer("scontrol", "NodeName=n2 NodeAddr=no-such-host.invalid\n", "--oneliner show node n2")
    with pytest.raises(ResourceError, match=r"node n2: no-such-host\.invalid"):
        node_address("n2")


def test_jobs_by_name(slurm: SlurmCommands) -> None:
    slurm.answer("squeue", "12\n7\n", "--noheader --name=a --format=%A")
    slurm.answer("squeue", "a\nb\n", f"--me --noheader --states={ALIVE} --format=%j")
    assert named("a") == [7, 12]
    assert names() == ["a", "b"]


@pytest.mark.parametrize(
    ("clock", "value"),
    [
        ("00:01:30", 90),
        ("1-00:00:00", 86400),
        ("05:00", 300),
        ("UNLIMITED", None),
        ("Partition_Limit", None),
        ("", None),
    ],
)
def test_clocks(clock: str, value: float | None) -> None:
    assert seconds(clock) == value
