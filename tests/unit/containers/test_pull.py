"""What a pull's events become in the log, and what an engine's refusals mean; tests/lab pulls for real."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from slipway.config.image import ImageConfig
from slipway.containers import pull
from slipway.errors import ConfigError, ResourceError

IMAGE = ImageConfig(repository="nvcr.io/nvidia/nemo", tag="1", digests={"amd64": "sha256:" + "a" * 64})
REFERENCE = f"nvcr.io/nvidia/nemo@sha256:{'a' * 64}"


def event(layer: str, current: float, total: float) -> dict:
    return {"id": layer, "progressDetail": {"current": current, "total": total}}


def test_a_pull_says_how_far_it_is_and_that_it_is_done(tmp_path, monkeypatch):
    due = iter([True, False, True])
    monkeypatch.setattr(pull, "Throttle", lambda every_s: SimpleNamespace(due=lambda: next(due)))
    events = [event("a", 1e9, 4e9), event("b", 1e9, 2e9), event("a", 4e9, 4e9)]
    pull._follow(events, REFERENCE, tmp_path / "log")
    assert (tmp_path / "log").read_text().splitlines() == [
        f"pulling {REFERENCE}: 1.0 of 4.0 GB",
        f"pulling {REFERENCE}: 5.0 of 6.0 GB",
        f"pulled {REFERENCE}",
    ]


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        ("write /x: no space left on device", ResourceError, "no space left"),
        ("manifest unknown", ConfigError, "slipway pin"),
        ("pull access denied, not found", ConfigError, "slipway pin"),
        ("received unexpected HTTP status: 500", ResourceError, "status: 500"),
    ],
)
def test_what_the_engine_reports_during_a_pull(tmp_path, message, kind, text):
    with pytest.raises(kind, match=text):
        pull._follow([{"error": message}], REFERENCE, tmp_path / "log")


def test_another_machine_than_the_target_is_refused_before_anything_is_asked(tmp_path):
    engine = SimpleNamespace(host="tcp://spark")
    with pytest.raises(ConfigError, match=r"machine tcp://spark: arm64; expected amd64, the target's architecture"):
        pull.have_image(engine, {"Architecture": "aarch64"}, IMAGE, "amd64", tmp_path / "log")


def test_an_image_that_is_there_is_not_pulled(tmp_path):
    engine = SimpleNamespace(host="tcp://spark", ask_until_answered=lambda call, seconds: {"Architecture": "amd64"})
    assert pull.have_image(engine, {"Architecture": "x86_64"}, IMAGE, "amd64", tmp_path / "log") == REFERENCE
    assert not (tmp_path / "log").exists()


def test_an_image_of_another_architecture_than_it_was_pinned_for_is_refused(tmp_path):
    engine = SimpleNamespace(host="tcp://spark", ask_until_answered=lambda call, seconds: {"Architecture": "arm64"})
    with pytest.raises(ConfigError, match=r"arm64 on tcp://spark; expected amd64"):
        pull.have_image(engine, {"Architecture": "x86_64"}, IMAGE, "amd64", tmp_path / "log")
