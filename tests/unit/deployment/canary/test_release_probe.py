"""Candidates with the faults that engines had, promoted for real: each is undone by its own name and the champion
serves. Numbers are those of other projects' reports in docs/adr/0044."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from slipway.config.deploy import DeployConfig
from slipway.config.probe import ProbeConfig
from slipway.deployment.canary.release_probe import NONE
from slipway.deployment.promotion import promote, rollback
from slipway.deployment.releases import Release
from slipway.deployment.state import status
from slipway.errors import EngineError
from slipway.evaluation.recorded_answers import probe_text
from slipway.store.artifacts import Dataset
from slipway.store.store import Store
from tests.support.faulty_engine import program
from tests.support.target import make_engine, make_verdict, running
from tests.unit.deployment.canary.test_candidate_probe import recorded

Promote = Callable[..., Release]


@pytest.fixture
def promote_engine(store: Store, data: Dataset, params: DeployConfig) -> Promote:
    """Promote an engine with a fault; its evaluation recorded sound answers."""

    def go(fault: str, notes: list[str] | None = None, *, answers: bool = True, **more: Any) -> Release:
        engine = make_engine(store, {"fault": fault, **more}, program())
        verdict = make_verdict(store, engine, recorded=probe_text(recorded()) if answers else "")
        config = params.model_copy(
            update={
                "probe": ProbeConfig(slowest=None),
                "start_timeout_s": 1.5 if fault == "never_healthy" else 60.0,
            }
        )
        note = notes.append if notes is not None else (lambda _: None)
        return promote(engine, verdict, data, {}, config, model="m", note=note)

    return go


def test_a_sound_candidate_is_asked_what_was_recorded_and_again_when_it_comes_back(
    promote_engine: Promote, params: DeployConfig
) -> None:
    notes: list[str] = []
    first = promote_engine("sound", notes)
    assert first.recorded == {"rows": 18, "rounding": None}
    assert first.checks["probe"]["rows"] == 18 and all(test["passed"] for test in first.checks["probe"]["tests"])
    assert any("answers as evaluated" in note for note in notes)
    promote_engine("sound", v=2)
    back = rollback(params.model_copy(update={"probe": ProbeConfig(slowest=None)}))
    assert back.name == first.name and back.checks["probe"]["rows"] == 18


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("never_healthy", "healthy"),  # report 13: undone by its deadline
        ("dies", "CUDA driver version is insufficient"),  # report 9: at once, with the reason
        ("garbage", "probe of the candidate: unlikely_token"),  # report 6
        ("loops", "probe of the candidate: loops"),  # report 5
        ("shifted", "probe of the candidate: log_probability"),  # healthy, and fails agreement
        ("plain", "log-probabilities, which the evaluated engine gave"),
    ],
)
def test_a_faulty_candidate_is_undone_by_name_and_the_champion_serves(
    promote_engine: Promote, params: DeployConfig, fault: str, words: str
) -> None:
    champion = promote_engine("sound")
    with pytest.raises(EngineError) as caught:
        promote_engine(fault)
    assert words in str(caught.value)
    now = status(params)
    assert now.healthy and now.release is not None and now.release.name == champion.name
    assert now.releases == [champion.name] and len(running(params)) == 1


def test_report_9_a_slow_load_is_waited_for_and_not_started_again(
    promote_engine: Promote, params: DeployConfig
) -> None:
    begin = time.monotonic()
    release = promote_engine("slow_load", delay_s=1)
    assert time.monotonic() - begin >= 1  # it was healthy not before; how long after is the machine's matter
    assert status(params).healthy and len(running(params)) == 1
    assert release.checks["probe"]["rows"] == 18


def test_a_release_without_recorded_answers_says_so(promote_engine: Promote) -> None:
    notes: list[str] = []
    release = promote_engine("sound", notes, answers=False)
    assert release.recorded is None and release.checks["probe"]["refused"] == NONE and NONE in notes
    assert "names none" in release.checks["probe"]["agreement"]["refused"]  # this engine is made of no weights
