"""A release as its record describes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from slipway.deployment.releases import Release
from slipway.errors import StateError
from slipway.store.artifacts import Engine
from slipway.store.store import Store, load
from tests.support.target import Ship

RECORD = {
    "name": "0001-aaaaaaaa", "path": "/t/releases/0001-aaaaaaaa", "model": "m", "created": "2026-01-01T00:00:00Z",
    "digests": {"engine": "a" * 64}, "outcome": "pass",
}  # fmt: skip


def test_a_record_of_an_earlier_version_has_nobody_who_asked() -> None:
    release = Release.model_validate(RECORD)
    assert (release.asked, release.runs, release.smoke, release.reused) == (None, {}, [], False)
    assert (release.retrieval, release.index(Path("nowhere"))) == (None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"digests": {"dataset": "d"}},
        {"name": "../x"},
        {"created": 3},
        {"retrieval": {"index": "x", "retriever": "bm25", "depth": 1}},
    ],
)
def test_a_record_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Release.model_validate({**RECORD, **change})


def test_a_released_engine_is_an_artifact_of_its_own(ship: Ship, tmp_path: Path) -> None:
    release = ship()
    assert release.engine(tmp_path / "pruned").digest == release.digests["engine"]


def test_the_engine_of_a_release_on_another_machine_is_the_one_of_the_store(tmp_path: Path) -> None:
    """A candidate is compared with the champion's evaluation, which its engine's digest finds; its bytes stay there."""
    store = Store(tmp_path / "store")
    with store.create(Engine, "k1", {}) as out:
        (out / "serve.json").write_text("{}")
    engine = load(Engine, store.dir("engine", "k1"))
    release = Release.model_validate({**RECORD, "path": "/home/spark/releases/1", "digests": {"engine": engine.digest}})
    assert release.engine(store.root) == engine
    other = Release.model_validate({**RECORD, "path": "/home/spark/releases/2"})
    with pytest.raises(StateError, match=r"engine aaaaaaaaaaaa of release .*: on its target only, not in .*store.root"):
        other.engine(store.root)
