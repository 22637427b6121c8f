"""A release as its record describes it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.deployment.releases import Release
from tests.support.target import Ship

RECORD = {
    "name": "0001-aaaaaaaa", "path": "/t/releases/0001-aaaaaaaa", "model": "m", "created": "2026-01-01T00:00:00Z",
    "digests": {"engine": "a" * 64}, "outcome": "pass",
}  # fmt: skip


def test_a_record_of_an_earlier_version_has_nobody_who_asked() -> None:
    release = Release.model_validate(RECORD)
    assert (release.asked, release.runs, release.smoke, release.reused) == (None, {}, [], False)


@pytest.mark.parametrize("change", [{"digests": {"dataset": "d"}}, {"name": "../x"}, {"created": 3}])
def test_a_record_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Release.model_validate({**RECORD, **change})


def test_a_released_engine_is_an_artifact_of_its_own(ship: Ship) -> None:
    release = ship()
    assert release.engine.digest == release.digests["engine"]
