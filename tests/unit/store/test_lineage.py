import shutil
from pathlib import Path

from slipway.store.lineage import digests, lineage
from tests.support.record import record


def test_lineage_reaches_everything_once_nearest_first(tmp_path: Path) -> None:
    run = record(tmp_path)
    ancestors = lineage(run.engine, run.verdict)
    assert [a.role for a in ancestors[:3]] == ["engine", "verdict", "checkpoint"]
    assert {
        "candidate",
        "merged",
        "base",
        "merged.engine",
        "base.engine",
        "checkpoint.merged",
        "checkpoint.merged.adapter",
    } <= {a.role for a in ancestors}
    assert len({a.digest for a in ancestors}) == len(ancestors) == 12
    nearest = digests(run.engine, run.verdict)
    assert nearest["engine"] == run.engine.digest
    assert nearest["adapter"] == run.adapter.digest
    assert nearest["checkpoint"] == next(a.digest for a in ancestors if a.stage == "merge")


def test_bytes_that_are_gone_or_made_anew_are_named_but_not_followed(tmp_path: Path) -> None:
    run = record(tmp_path)
    merged = next(a for a in lineage(run.engine) if a.stage == "merge")
    shutil.rmtree(merged.uri)
    gone = next(a for a in lineage(run.engine) if a.digest == merged.digest)
    assert (gone.kind, gone.stage, gone.provenance) == ("checkpoint", "", {})
    shutil.copytree(run.adapter.uri, merged.uri)  # another artifact at the same place
    assert next(a for a in lineage(run.engine) if a.digest == merged.digest).provenance == {}
