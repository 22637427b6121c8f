"""From a verdict back to its candidate, and a verdict whose ancestors are gone or damaged."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from slipway.agent import records
from slipway.config.data import DataConfig
from slipway.config.load import Config
from slipway.config.store import StoreConfig
from slipway.deployment.candidate import (
    candidate_of,
    evaluation_document,
    line_of,
    named_verdict,
    names_a_version,
    newest_candidate,
    read_verdict,
    verdict_on,
)
from slipway.errors import ConfigError, StateError
from slipway.report.record import RunRecord
from slipway.store.artifacts import MANIFEST
from slipway.store.store import Store
from tests.support.garbage import GARBAGE, Garbage
from tests.support.record import record
from tests.support.target import make_engine, make_verdict


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    monkeypatch.setattr(records, "MAX_BYTES", 1 << 20)
    made = record(tmp_path)
    evaluation = made.quality["candidate"].path / MANIFEST  # the record's own has the engine and the data
    assert {"engine", "data"} <= set(json.loads(evaluation.read_text())["provenance"]["inputs"])
    return made


def test_a_verdict_leads_to_what_it_judged(run: RunRecord) -> None:
    candidate = candidate_of(run.verdict, Config())
    assert candidate.engine == run.engine
    assert candidate.adapter == run.adapter
    assert candidate.quality == run.quality
    config = Config(store=StoreConfig(root=str(run.verdict.path.parents[1])))
    assert newest_candidate(config).verdict == run.verdict


def test_a_verdict_is_named_by_its_directory_or_the_digits_that_a_run_shows(run: RunRecord) -> None:
    config = Config(store=StoreConfig(root=str(run.verdict.path.parents[1])))
    for name in (str(run.verdict.path), run.verdict.digest[:12], run.verdict.digest):
        assert named_verdict(name, config) == run.verdict
    for name, message in (("abcdef012345", "none in"), ("no/such/place", "no/such/place")):
        with pytest.raises(StateError, match=message):
            named_verdict(name, config)


def test_the_last_verdict_on_an_engine_is_found_by_its_digest(run: RunRecord, tmp_path: Path) -> None:
    """As a version of the registered model names it; a damaged verdict of another stands in nobody's way."""
    root = run.verdict.path.parents[1]
    config = Config(store=StoreConfig(root=str(root)))
    assert verdict_on(run.engine.digest, config, "version 7") == run.verdict
    again = root / "verdict" / "again"
    shutil.copytree(run.verdict.path, again)
    document = json.loads((again / MANIFEST).read_text())
    document["provenance"]["created"] = "2999-01-01T00:00:00Z"
    (again / MANIFEST).write_text(json.dumps(document))
    assert verdict_on(run.engine.digest, config, "version 7").path == again
    with pytest.raises(StateError, match=r"version 8: no verdict on engine bbbbbbbbbbbb in .*verdict"):
        verdict_on("b" * 64, config, "version 8")


def test_what_names_a_version_is_no_path_and_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "verdict").mkdir()
    assert [
        name
        for name in ("7", "12345", "spark-champion", "@canary", "123456", "verdict", "no/such", "abcdef012345", "")
        if names_a_version(name)
    ] == ["7", "12345", "spark-champion", "@canary"]


def test_the_newest_verdict_is_the_newest_in_a_copied_store_too(run: RunRecord) -> None:
    """A copy writes its files in any order; what a manifest says of its making stays."""
    root = run.verdict.path.parents[1]
    for name, created in (("older", "2026-11-01T00:00:00Z"), ("newer", "2026-11-02T00:00:00Z")):
        copy = root / "verdict" / name
        shutil.copytree(run.verdict.path, copy)
        document = json.loads((copy / MANIFEST).read_text())
        document["provenance"]["created"] = created
        (copy / MANIFEST).write_text(json.dumps(document))
    shutil.rmtree(run.verdict.path)
    os.utime(root / "verdict/newer" / MANIFEST, (1, 1))
    assert newest_candidate(Config(store=StoreConfig(root=str(root)))).verdict.path.name == "newer"


def test_the_newest_verdict_of_another_line_is_not_promoted_unasked(run: RunRecord) -> None:
    """The record's data carry their config: a run with another one is of another line."""
    file = run.verdict.path.parents[1]
    evaluation = json.loads((run.quality["candidate"].path / MANIFEST).read_text())
    assert "data" in evaluation["provenance"]["inputs"]
    mine = Config(store=StoreConfig(root=str(file)))
    other = mine.model_copy(update={"data": DataConfig(name="tickets"), "model": mine.model})
    data = candidate_of(run.verdict, mine).data
    manifest = json.loads((data.path / MANIFEST).read_text())
    manifest["provenance"]["params"] = {"config": DataConfig(name="home").model_dump(mode="json")}
    (data.path / MANIFEST).write_text(json.dumps(manifest))
    assert newest_candidate(mine).config.line == mine.line
    with pytest.raises(StateError, match=rf"none of {other.line} in .*the newest is of {mine.line}"):
        newest_candidate(other)


def test_damaged_bytes_of_another_lines_verdict_stand_in_nobodys_way(run: RunRecord) -> None:
    (run.verdict.path / "verdict.json").write_text("{")
    mine = Config(store=StoreConfig(root=str(run.verdict.path.parents[1])))
    with pytest.raises(StateError, match=str(run.verdict.path)):
        newest_candidate(mine)
    data = run.verdict.path.parents[1] / "dataset/data" / MANIFEST
    manifest = json.loads(data.read_text())
    manifest["provenance"]["params"] = {"config": DataConfig(name="tickets").model_dump(mode="json")}
    data.write_text(json.dumps(manifest))
    with pytest.raises(StateError, match=rf"none of {mine.line} "):
        newest_candidate(mine)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda g: g.name)
@pytest.mark.parametrize("what", ["verdict", "evaluation", "engine", "adapter"])
def test_a_damaged_manifest_on_the_way_is_named(run: RunRecord, what: str, garbage: Garbage) -> None:
    path = {
        "verdict": run.verdict.path,
        "evaluation": run.quality["candidate"].path,
        "engine": run.engine.path,
        "adapter": run.adapter.path,
    }[what]
    garbage.put(path / MANIFEST)
    with pytest.raises(StateError, match=str(path)), garbage.around():
        candidate_of(read_verdict(run.verdict.path), Config())


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda g: g.name)
@pytest.mark.parametrize("document", ["verdict.json", "metrics.json"])
def test_a_damaged_document_is_named(run: RunRecord, document: str, garbage: Garbage) -> None:
    path = (run.verdict if document == "verdict.json" else run.quality["candidate"]).path
    garbage.put(path / document)
    # The command line and flows name a file that may not be read by the system's own error.
    with pytest.raises((StateError, PermissionError), match=document), garbage.around():
        candidate_of(read_verdict(run.verdict.path), Config())


def test_a_verdict_that_names_no_candidate_and_a_store_without_one(run: RunRecord, tmp_path: Path) -> None:
    file = run.verdict.path / MANIFEST
    document = json.loads(file.read_text())
    del document["provenance"]["inputs"]["candidate"]
    file.write_text(json.dumps(document))
    with pytest.raises(StateError, match="names no input candidate"):
        candidate_of(run.verdict, Config())
    with pytest.raises(StateError, match=r"none of .* in .*slipway run"):
        newest_candidate(Config(store=StoreConfig(root=str(tmp_path / "elsewhere"))))


def test_params_of_another_version_are_named(run: RunRecord) -> None:
    file = run.engine.path / MANIFEST
    document = json.loads(file.read_text())
    document["provenance"]["params"] = {"no_such_key": 1}
    file.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="no_such_key"):
        candidate_of(run.verdict, Config())


def test_a_verdict_and_its_adapter_are_of_one_line(run: RunRecord) -> None:
    """The line that the candidate's recorded config has; the record's base is the default model."""
    data = run.verdict.path.parents[1] / "dataset/data" / MANIFEST
    manifest = json.loads(data.read_text())
    manifest["provenance"]["params"] = {"config": {"raw": "rows/Support tickets.jsonl"}}
    data.write_text(json.dumps(manifest))
    assert line_of(run.verdict, Config()) == "support-tickets-smollm2-135m"
    assert line_of(run.adapter, Config()) == "support-tickets-smollm2-135m"
    assert candidate_of(run.verdict, Config()).config.line == "support-tickets-smollm2-135m"


def test_the_line_of_a_verdict_without_its_data_is_refused_by_name(run: RunRecord) -> None:
    shutil.rmtree(run.verdict.path.parents[1] / "dataset/data")
    with pytest.raises(StateError, match=r"verdict .*/v: what prepare made is gone"):
        line_of(run.verdict, Config())


def test_a_release_carries_the_figures_of_its_evaluation_and_no_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    verdict = make_verdict(store, make_engine(store, {"answer": "x"}))
    (evaluation,) = (tmp_path / "evaluation").iterdir()
    empty = json.loads(evaluation_document(verdict)["evaluation.json"])
    assert (empty["metrics"], empty["speed"]) == (None, None)
    (evaluation / "metrics.json").write_text('{"exact": 0.83}')
    document = json.loads(evaluation_document(verdict)["evaluation.json"])
    assert document == {**empty, "metrics": {"exact": 0.83}}
    assert document["digest"] == json.loads((evaluation / "manifest.json").read_text())["digest"]
    (evaluation / "speed.json").write_text("{")
    with pytest.raises(StateError, match="speed of evaluation"):
        evaluation_document(verdict)
