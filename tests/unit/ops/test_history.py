"""The versions that a store judged, and what differs between two of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.config.load import Config
from slipway.errors import StateError
from slipway.ops.history import before, difference, named, releases_of, versions
from tests.support.made_chain import make_chain
from tests.support.world import small_config

Judge = Callable[..., Config]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Make a whole chain with these overrides; its config."""

    def one(exact: float, judged: str, **changed: object) -> Config:
        fixed = {"store.root": tmp_path / "store", "deploy.root": tmp_path / "target", "evaluate.reference": "served"}
        config = small_config(tmp_path / "world", "sqlite:///history.db", 1, **fixed, **changed)
        make_chain(config, tmp_path / "world", exact, judged)
        return config

    return one


def test_what_changed_stands_at_the_stage_whose_key_holds_it(judge: Judge, tmp_path: Path) -> None:
    judge(0.5, "2026-11-01T00:00:00Z")
    config = judge(0.75, "2026-11-02T00:00:00Z", **{"train.lr": 0.5, "quantize.method": "max"})
    (first, second), damaged = versions(tmp_path / "store")
    assert damaged == 0
    assert (first.line, first.outcome, first.quality, first.rows) == (
        config.line, "pass", {"json_exact": 0.5}, {"train": 9, "test": 2},
    )  # fmt: skip
    assert before(second, [first, second]) == first
    assert before(first, [first, second]) is None
    differs = difference(first, second)
    fields = {stage: [change.field for change in rows] for stage, rows in differs.changes.items()}
    assert fields == {"prepare": ["needs.calibration"], "train_cpu": ["lr"], "quantize": ["method"]}
    assert differs.changes["train_cpu"][0].now == "0.5"
    assert differs.quality == {"json_exact": (0.5, 0.75)}
    assert differs.same_data
    assert difference(first, first).changes == {}


def test_other_data_is_said_and_belongs_to_another_line(judge: Judge, tmp_path: Path) -> None:
    judge(0.5, "2026-11-01T00:00:00Z")
    judge(0.6, "2026-11-02T00:00:00Z", **{"data.name": "other", "data.seed": 5})
    (first, second), _ = versions(tmp_path / "store")
    assert before(second, [first, second]) is None
    assert {change.field for change in difference(first, second).changes["prepare"]} == {"config.name", "config.seed"}
    assert not difference(first, second).same_data


def test_what_was_pruned_and_what_is_damaged(judge: Judge, tmp_path: Path) -> None:
    """A pruned stage is shown as one, its digest stays; a damaged verdict is counted."""
    judge(0.5, "2026-11-01T00:00:00Z")
    judge(0.6, "2026-11-02T00:00:00Z", **{"train.lr": 0.5})
    (first, second), _ = versions(tmp_path / "store")
    shutil.rmtree(first.stages["quantize"].path)
    (first, second), _ = versions(tmp_path / "store")
    fields = difference(first, second).changes
    assert [str(change) for change in fields["quantize"]] == ["artifact: - -> made"]
    for garbage in ("[", "[]", "null", '{"outcome": 3}', '{"outcome": "pass", "measured": [{"name": "a"}]}'):
        (second.stages["gate"].path / "verdict.json").write_text(garbage)
        left, damaged = versions(tmp_path / "store")
        assert ([version.verdict for version in left], damaged) == ([first.verdict], 1), garbage


def test_a_version_is_named_by_digits_of_its_verdict_or_engine(judge: Judge, tmp_path: Path) -> None:
    judge(0.5, "2026-11-01T00:00:00Z")
    judged, _ = versions(tmp_path / "store")
    assert named(judged[0].verdict[:6], judged) == named(judged[0].engine[:8], judged) == judged[0]
    for wrong in (judged[0].verdict[:5], "ffffff0", ""):
        with pytest.raises(StateError, match="slipway history"):
            named(wrong, judged)


def test_releases_of_a_verdict_before_there_are_any(judge: Judge, tmp_path: Path) -> None:
    config = judge(0.5, "2026-11-01T00:00:00Z")
    judged, _ = versions(tmp_path / "store")
    assert releases_of(judged[0], config.deploy) == []
    assert versions(tmp_path / "nowhere") == ([], 0)
