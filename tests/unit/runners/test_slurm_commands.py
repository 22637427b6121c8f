"""What Slurm's commands print, as seen on a real 22.05 and in its manuals, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import ResourceError
from slipway.runners import slurm_commands
from slipway.runners.base import State
from slipway.runners.slurm_commands import (
    QueuedJob,
    SilentError,
    accounting_is_off,
    by_accounting,
    by_controller,
    call,
    call_until_answered,
    find_named,
    first_node_address,
    list_jobs,
)


def slurm_says(monkeypatch: pytest.MonkeyPatch, folder: Path, **commands: str) -> None:
    """Programs on PATH that print what the real ones did; a text starting with `!` goes to stderr with exit code 1."""
    for name, text in commands.items():
        out, code = (">&2", 1) if text.startswith("!") else ("", 0)
        (folder / "text").mkdir(exist_ok=True)
        (folder / "text" / name).write_text(text.removeprefix("!"))
        (folder / name).write_text(f"#!/bin/sh\ncat {folder}/text/{name} {out}\nexit {code}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("row", "state", "code", "reason"),
    [
        ("7|COMPLETED|0:0|12|None|", State.DONE, 0, "COMPLETED"),
        ("7|FAILED|3:0|12|None|", State.FAILED, 3, "FAILED, exit code 3"),
        ("7|FAILED|0:11|12|None|", State.FAILED, -11, "FAILED, signal 11"),
        ("7|TIMEOUT|0:15|60|None|", State.TIMEOUT, -15, "TIMEOUT, signal 15"),
        ("7|PREEMPTED|0:0|12|None|", State.PREEMPTED, 0, "PREEMPTED"),
        ("7|NODE_FAIL|1:0|12|None|", State.NODE_FAIL, None, "NODE_FAIL"),
        ("7|OUT_OF_MEMORY|0:125|12|None|", State.OUT_OF_MEMORY, -125, "OUT_OF_MEMORY, signal 125"),
        ("7|CANCELLED by 1000|0:15|12|None|", State.CANCELLED, -15, "CANCELLED by 1000, signal 15"),
        ("7|CANCELLED|0:0|0|DependencyNeverSatisfied|", State.CANCELLED, 0, "CANCELLED, DependencyNeverSatisfied"),
        ("7|BOOT_FAIL|0:0|0|None|", State.NODE_FAIL, None, "BOOT_FAIL"),
    ],
)
def test_accounting_keeps_reason_and_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, row: str, state: State, code: int | None, reason: str
) -> None:
    slurm_says(monkeypatch, tmp_path, sacct=f"{row}\n7.batch|FAILED|1:0|11||2048K\n7.0|FAILED|1:0|11||3.5G\n")
    report = by_accounting(7)
    assert report is not None and report.outcome is not None
    assert (report.outcome.state, report.outcome.code, report.outcome.reason) == (state, code, reason)
    assert report.outcome.peak_rss == int(3.5 * 1024**3)


@pytest.mark.parametrize(
    "state", ["PENDING", "RUNNING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "RESIZING", "SPECIAL_EXIT"]
)
def test_a_job_that_may_go_on_has_no_outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str) -> None:
    shown = (
        f"JobId=7 JobName=x.ab UserId=u(1) Requeue=1 JobState={state} Reason=BeginTime Dependency=(null) "
        "RunTime=1-02:03:04 ExitCode=0:0\n"
    )
    slurm_says(monkeypatch, tmp_path, scontrol=shown, sacct=f"7|{state}|0:0|5|None|\n")
    for report in (by_controller(7), by_accounting(7)):
        assert report is not None
        assert report.outcome is None


def test_the_controller_s_record_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = (
        "JobId=7 JobName=x JobState=NODE_FAIL Reason=NodeDown Dependency=(null) RunTime=1-02:03:04 "
        "TimeLimit=04:00:00 ExitCode=1:0\n"
    )
    slurm_says(monkeypatch, tmp_path, scontrol=shown)
    report = by_controller(7)
    assert report is not None and report.outcome is not None
    assert (report.outcome.state, report.outcome.reason) == (State.NODE_FAIL, "NODE_FAIL, NodeDown")
    assert report.outcome.seconds == 86400 + 2 * 3600 + 3 * 60 + 4


def test_a_forgotten_job_and_a_cluster_without_accounts_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slurm_says(
        monkeypatch,
        tmp_path,
        scontrol="!slurm_load_jobs error: Invalid job id specified\n",
        sacct="!Slurm accounting storage is disabled\n",
    )
    assert by_controller(7) is None
    assert by_accounting(7) is None
    slurm_says(monkeypatch, tmp_path, sacct="")
    assert by_accounting(7) is None


@pytest.mark.parametrize(
    ("kind", "off"), [("accounting_storage/none", True), ("(null)", True), ("accounting_storage/slurmdbd", False)]
)
def test_whether_accounts_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, off: bool) -> None:
    slurm_says(monkeypatch, tmp_path, scontrol=f"AccountingStorageTRES = cpu\nAccountingStorageType   = {kind}\n")
    assert accounting_is_off() is off


@pytest.mark.parametrize(
    "answer",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sacct: error: Problem talking to the database: Connection refused",
        "scancel: error: Kill job error on job id 7: Transport endpoint is not connected",
    ],
)
def test_silence_is_not_an_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str) -> None:
    slurm_says(monkeypatch, tmp_path, squeue=f"!{answer}\n")
    with pytest.raises(SilentError):
        call("squeue")
    with pytest.raises(ResourceError, match=r"an answer within 0 s.*scontrol ping"):
        call_until_answered(0, "squeue")


def test_a_refusal_and_a_missing_command_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slurm_says(monkeypatch, tmp_path, sbatch="!sbatch: error: Batch job submission failed: Invalid account specified\n")
    with pytest.raises(ResourceError, match=r"Invalid account specified.*by hand: sbatch job"):
        call("sbatch", "job")
    with pytest.raises(ResourceError, match=r"no `no-such-scontrol` here.*login node"):
        call("no-such-scontrol")


def test_jobs_of_a_name_are_found_without_accounting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = "JobId=7 JobState=RUNNING Reason=None RunTime=00:00:01 ExitCode=0:0\n"
    slurm_says(monkeypatch, tmp_path, squeue="9\n7\n", sacct="!sacct: error: Connection refused\n", scontrol=shown)
    assert [f.job_id for f in find_named("x.ab")] == [7, 9]


def test_jobs_with_our_labels_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = "7|RUNNING|1-00:00:01|slipway.run=r slipway.stage=train_nemo slipway.job=slipway-train_nemo-1"
    slurm_says(monkeypatch, tmp_path, squeue=f"{ours}\n8|PENDING|0:00|\n9|RUNNING|0:01|somebody's words | here\n")
    assert list_jobs() == [QueuedJob(7, "slipway-train_nemo-1", "RUNNING", "r", "train_nemo", "1-00:00:01")]


def test_a_command_that_hangs_is_silence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "squeue").write_text("#!/bin/sh\nexec sleep 30\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(slurm_commands, "TIMEOUT_S", 0.3)
    with pytest.raises(SilentError, match="did not answer"):
        call("squeue")


def test_a_running_jobs_first_node_is_reached_by_its_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "JobId=7 JobState=RUNNING BatchHost=n1 NodeList=n[1-2] NodeName=n1 Arch=x86_64 NodeAddr=10.0.0.5"
    slurm_says(monkeypatch, tmp_path, scontrol=text)
    assert first_node_address(7) == "10.0.0.5"
    slurm_says(monkeypatch, tmp_path, scontrol="JobId=7 JobState=PENDING NodeList=")
    assert first_node_address(7) is None
    slurm_says(monkeypatch, tmp_path, scontrol="!slurm_load_jobs error: Invalid job id specified")
    assert first_node_address(7) is None
