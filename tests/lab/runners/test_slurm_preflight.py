"""Preflight asks a real Slurm of two nodes, of two GPUs each, with a default and another partition."""

from __future__ import annotations

from slipway.ops.preflight.finding import Finding
from slipway.ops.preflight.slurm_checks import slurm_checks
from tests.lab.slurm_lab import SlurmLab, wait_for


def rows(partition: str | None, nodes: int, gpus: int) -> dict[str, Finding]:
    return {row.name: row for row in slurm_checks("lab", partition, nodes, gpus, "01:00:00")}


def test_what_the_cluster_has_and_has_not(slurm_lab: SlurmLab) -> None:
    well = rows(None, 2, 2)
    assert {row.status for row in well.values()} == {"ok"}, well
    assert well["partition"].finding.startswith("normal; a job may take none")
    assert well["nodes"].finding.startswith("2 of 2 take such a job")
    assert rows("preemptible", 2, 2)["nodes"].status == "ok"
    assert rows("gpu", 1, 1)["partition"].finding == "gpu is not there; it has normal, preemptible"
    assert rows(None, 3, 2)["nodes"].status == rows(None, 1, 3)["nodes"].status == "fail"


def test_a_drained_node_is_named_until_it_is_back(slurm_lab: SlurmLab) -> None:
    slurm_lab.ask("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=dust")
    try:
        wait_for(lambda: rows(None, 2, 2)["nodes"].status == "warn")
        assert "not: n2 drain" in rows(None, 2, 2)["nodes"].finding
        assert rows(None, 1, 2)["nodes"].status == "ok"
    finally:
        slurm_lab.ask("scontrol", "update", "NodeName=n2", "State=RESUME")
    wait_for(lambda: rows(None, 2, 2)["nodes"].status == "ok")
