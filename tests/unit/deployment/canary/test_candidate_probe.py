"""A candidate is asked what the evaluated engine answered; each kind of fault fails by its own name.

Numbers are those of other projects' reports in docs/adr/0044: 5 (long answers loop), 6 (garbage behind a healthy port).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from slipway.deployment.canary.candidate_probe import ProbeReport, probe_candidate, recorded_of, rounding_in
from slipway.engines.probability_client import ProbabilityClient
from slipway.errors import EngineError
from slipway.evaluation.recorded_answers import (
    PROBE,
    RecordedRow,
    asked_rows,
    parse_rows,
    probe_text,
    read_rows,
    record,
    write_rows,
)
from slipway.store.store import Store
from tests.support.faulty_engine import faulty
from tests.support.target import make_engine, make_verdict


@cache
def recorded(fault: str = "sound") -> tuple[RecordedRow, ...]:
    """What an engine's evaluation recorded: 12 short answers twice, 6 long ones."""
    rows = [
        {"id": f"r{i}", "label": "l", "messages": [{"role": "user", "content": f"row {i}"}, {"role": "assistant"}]}
        for i in range(12)
    ]
    with faulty(fault) as url:
        client = ProbabilityClient(url, "m", 20)
        return tuple(record(client, asked_rows(rows, 12, 40, 384), 4, lambda _: None))


def probe(fault: str, rows: tuple[RecordedRow, ...], **more: Any) -> ProbeReport:
    with faulty(fault) as url:
        return probe_candidate(url, "m", rows, slowest=None, **more)


def test_a_sound_start_passes_though_it_answers_a_near_tie_otherwise() -> None:
    notes: list[str] = []
    report = probe("sound", recorded(), note=notes.append)
    assert report.drift.failed == [] and report.drift.tokens > 500
    assert report.drift.noise_from.startswith("repeats of the evaluation")
    assert "kernel agreement: not checked, no weights" in notes[0]
    document = json.loads(json.dumps(report.document()))
    assert {test["name"] for test in document["tests"]} >= {"unlikely_token", "log_probability", "unequal", "loops"}


@pytest.mark.parametrize(
    ("fault", "test", "words"),
    [
        ("garbage", "unlikely_token", "recorded"),
        ("shifted", "log_probability", "off on average"),
        ("empty", "empty", "answers without text"),
        ("endless", "cut_off", "end at the token limit"),
    ],
)
def test_report_6_an_engine_that_is_healthy_and_wrong_fails_by_name(fault: str, test: str, words: str) -> None:
    with pytest.raises(EngineError) as caught:
        probe(fault, recorded())
    assert caught.value.thing == f"probe of the candidate: {test}"
    assert words in str(caught.value.value) and caught.value.next_step
    assert len(str(caught.value)) < 2000


def test_report_5_right_short_answers_and_long_ones_that_loop_fail() -> None:
    with pytest.raises(EngineError) as caught:
        probe("loops", recorded())
    assert caught.value.thing == "probe of the candidate: loops"
    assert "6 of 6: long answers that repeat themselves; 0 of 6 were" in str(caught.value.value)
    assert "unequal" not in str(caught.value.value).split("also failed")[0]


def test_an_engine_without_log_probabilities_is_judged_by_its_texts() -> None:
    rows = recorded("plain")
    assert not any(row.has_probabilities for row in rows)
    report = probe("plain", rows)
    assert report.drift.noise is None and report.drift.noise_from == "no log-probabilities"
    with pytest.raises(EngineError, match="unequal: 18 of 18 answers are not those that were recorded; row r0"):
        probe("garbage", rows)


def test_a_candidate_that_gives_none_where_the_evaluated_engine_did_is_refused() -> None:
    with pytest.raises(EngineError, match="log-probabilities, which the evaluated engine gave"):
        probe("plain", recorded())


def test_a_candidate_that_dies_names_the_row() -> None:
    with pytest.raises(EngineError, match=r"probe of the candidate, row r\d"):
        probe_candidate("http://127.0.0.1:9/v1", "m", recorded()[:1], timeout_s=2)


def test_an_answer_much_slower_than_recorded_fails() -> None:
    rows = [
        row.model_copy(update={"answers": [a.model_copy(update={"seconds": a.seconds / 1e6}) for a in row.answers]})
        for row in recorded()
    ]
    with faulty() as url, pytest.raises(EngineError, match=r"slow: .* times the recorded"):
        probe_candidate(url, "m", rows)


def test_agreement_is_judged_on_top_where_somebody_can() -> None:
    asked: list[str] = []

    def agreement(url: str) -> dict[str, Any]:
        asked.append(url)
        return {"outcome": "pass", "ratio": 1.1, "ratio_limit": 2.9, "tokens": 768, "answers": 4}

    report = probe("sound", recorded(), agreement=agreement, rounding=0.004)
    assert asked and "kernel agreement: pass, off by 1.1 times what rounding does" in report.sentence()
    assert report.drift.noise_from.startswith("kernel agreement's rounding")


def test_rounding_is_read_from_the_bundle_where_it_was_measured(tmp_path: Path) -> None:
    assert rounding_in(tmp_path) is None
    for text, value in (('{"mean_rounding": 0.004}', 0.004), ('{"refused": "off"}', None), ("[", None), ("[]", None)):
        (tmp_path / "agreement.json").write_text(text)
        assert rounding_in(tmp_path) == value


def test_a_verdict_leads_to_what_its_evaluation_recorded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    verdict = make_verdict(store, make_engine(store, {}))
    assert recorded_of(verdict) == {}
    evaluation = next((tmp_path / "evaluation").iterdir())
    evaluation.chmod(0o755)
    write_rows(evaluation, recorded())
    assert recorded_of(verdict)[PROBE] == probe_text(recorded())
    assert tuple(parse_rows(recorded_of(verdict)[PROBE], "it")) == recorded()


def test_rows_come_back_from_their_file(tmp_path: Path) -> None:
    write_rows(tmp_path, recorded())
    assert tuple(read_rows(tmp_path / "probe.jsonl")) == recorded()
