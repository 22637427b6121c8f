"""What a Slurm cluster says before a job is made for it; the lab's own Slurm answers in tests/lab/runners."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.ops.preflight import slurm_checks as checks
from slipway.ops.preflight.finding import Finding

SINFO = """\
n1|gpu*|idle|gpu:h100:8(S:0-1)|1-00:00:00
n2|gpu*|mixed|gpu:h100:8(S:0-1),nvme:1|1-00:00:00
n3|gpu*|drained|gpu:h100:8|1-00:00:00
n4|gpu*|idle*|gpu:8|1-00:00:00
n5|gpu*|idle~|gpu:a:4,gpu:b:4|1-00:00:00
n6|cpu|allocated|(null)|infinite
n1|short|idle|gpu:h100:8(S:0-1)|30:00
slurm_load_node warning: something
"""


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name which prints the file `answer`, before all others in PATH."""
    (tmp_path / "answer").write_text(SINFO)
    program = tmp_path / "sinfo"
    program.write_text(f'#!/bin/sh\ncat "{tmp_path}/answer"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def rows(partition: str | None, nodes: int, gpus: int, limit: str = "04:00:00") -> dict[str, Finding]:
    return {row.name: row for row in checks.slurm_checks("c", partition, nodes, gpus, limit)}


def test_lines_are_read_with_their_gpus_states_and_limits() -> None:
    places = checks.places_of(SINFO)
    assert [one.gpus for one in places] == [8, 8, 8, 8, 8, 0, 8]
    assert [one.takes_work for one in places] == [True, True, False, False, True, True, True]
    assert [one.limit_s for one in places] == [86400] * 5 + [None, 1800]
    assert [one.default for one in places] == [True] * 5 + [False] * 2


def test_nodes_that_answer_and_are_not_drained_take_the_job(sinfo: Path) -> None:
    well = rows(None, 3, 8)
    assert {row.status for row in well.values()} == {"ok"}
    assert well["nodes"].finding.startswith("3 of 5 take such a job, 2 idle now; 3 with 8 GPUs each are asked for")
    assert "n3 drained, n4 idle*" in well["nodes"].finding
    waits = rows("gpu", 4, 8)["nodes"]
    assert waits.status == "warn" and "list-reasons" in waits.advice
    assert rows("gpu", 6, 8)["nodes"].status == rows("gpu", 1, 9)["nodes"].status == "fail"
    assert rows("cpu", 1, 1)["nodes"].status == "fail" and rows("cpu", 1, 0)["nodes"].status == "ok"


def test_a_partition_that_is_not_there_and_a_limit_that_is_too_short_fail(sinfo: Path) -> None:
    absent = rows("gpus", 1, 1)["partition"]
    assert absent.status == "fail" and absent.finding == "gpus is not there; it has cpu, gpu, short"
    short = rows("short", 1, 1, "01:00:00")["partition"]
    assert short.status == "fail" and "a job may take 0.5 h, 01:00:00 is asked for" in short.finding
    assert rows("cpu", 1, 0, "300-00:00:00")["partition"].status == "ok"
    (sinfo / "answer").write_text(SINFO.replace("*|", "|"))
    assert "no default one" in rows(None, 1, 1)["partition"].finding
    (sinfo / "answer").write_text("")
    assert "none with a node" in rows("gpu", 1, 1)["partition"].finding


def test_a_controller_that_does_not_answer_is_a_row(sinfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sinfo / "sinfo").write_text(
        "#!/bin/sh\necho 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1\n"
    )
    (row,) = rows(None, 1, 1).values()
    assert row.status == "fail" and "Unable to contact" in row.finding
    monkeypatch.setenv("PATH", "/nowhere")
    (row,) = rows(None, 1, 1).values()
    assert row.status == "fail" and "no `sinfo` here" in row.finding
