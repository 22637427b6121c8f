"""The decision record: what it holds, that it reads back, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.records import utc_now
from slipway.deployment.decision.policy import Asked, Incumbent, Ruling
from slipway.deployment.decision.record import Approval, Decision, decision, parse_decision
from slipway.errors import StateError
from slipway.store.store import Store
from slipway.system.files import sha256_bytes
from tests.support.target import make_engine, make_verdict

SERVING = Incumbent("0001-aaaaaaaa", "home", "a" * 64, "person")


def decided(store: Store, ruled: Ruling, **changes: Any) -> Decision:
    """A decision about an engine that passed its gate."""
    engine = make_engine(store, {"answer": "x"})
    verdict = make_verdict(store, engine)
    fields: dict[str, Any] = {"target": "spark", "line": "home", "policy": "own-line", "holds": []}
    inputs = {"engine": engine.digest, "verdict": verdict.digest}
    return decision(ruled, SERVING, verdict, inputs, asked=Asked(by="schedule", user="ann"), **{**fields, **changes})


def approval(*, approved: bool) -> Approval:
    return Approval(approved=approved, by="bob", reason="looked at it", time=utc_now(), given="prefect")


def test_a_record_reads_back_and_its_digest_is_of_its_bytes(tmp_path: Path) -> None:
    made = decided(Store(tmp_path / "store"), Ruling("ask", "inconclusive", "a person decides"))
    assert parse_decision(made.text(), "it") == made
    assert sha256_bytes(made.text().encode()) == made.digest
    document = json.loads(made.text())
    assert document["schema"] == 1
    assert document["champion"]["release"] == "0001-aaaaaaaa"
    assert document["inputs"]["engine"] == document["engine"]
    assert document["asked"] == {"by": "schedule", "user": "ann", "flow_run": "", "by_hand": False, "named": False}


def test_what_asks_promotes_only_once_a_person_approved(tmp_path: Path) -> None:
    asks = decided(Store(tmp_path), Ruling("ask", "inconclusive", "a person decides"))
    assert not asks.promotes
    assert not asks.model_copy(update={"approval": approval(approved=False)}).promotes
    assert asks.model_copy(update={"approval": approval(approved=True)}).promotes
    keeps = decided(Store(tmp_path), Ruling("keep", "hold", "held"))
    assert not keeps.model_copy(update={"approval": approval(approved=True)}).promotes
    assert decided(Store(tmp_path), Ruling("replace", "own line", "beat it")).promotes


@pytest.mark.parametrize("change", [{"schema": 2}, {"ruling": None}, {"engine": 7}, {"asked": {"by": "robot"}}])
def test_a_record_that_is_not_understood_is_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    document = json.loads(decided(Store(tmp_path / "store"), Ruling("replace", "first", "nothing serves")).text())
    with pytest.raises(StateError, match=rf"release 7.*{next(iter(change))}"):
        parse_decision(json.dumps({**document, **change}), "decision of release 7")


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "[" * 5000])
def test_what_is_no_record_is_refused_by_name(text: str) -> None:
    with pytest.raises(StateError, match="decision of release 7"):
        parse_decision(text, "decision of release 7")


def test_what_a_later_version_adds_is_passed_on(tmp_path: Path) -> None:
    document = json.loads(decided(Store(tmp_path / "store"), Ruling("replace", "first", "nothing serves")).text())
    read = parse_decision(json.dumps({**document, "weather": "fair"}), "it")
    assert json.loads(read.text())["weather"] == "fair"
