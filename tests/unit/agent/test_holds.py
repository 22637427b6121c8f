"""Holds: written, read back, refused by name when damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.agent.holds import FILE, held_releases, hold, holds, require_free, sentences, unhold
from slipway.errors import DataError, ResourceError, StateError

RELEASE = "0003-3fa9c1d2"


def target(tmp_path: Path) -> Path:
    (tmp_path / "releases" / RELEASE).mkdir(parents=True)
    return tmp_path


def test_a_held_target_refuses_and_says_who_holds_it_and_why(tmp_path: Path) -> None:
    require_free(tmp_path)
    made = hold(tmp_path, {"by": "ann", "reason": "trade fair\nuntil Friday"})["holds"]
    assert made == holds(tmp_path)
    assert sentences(made) == [f"by ann since {made[0]['since']}: trade fair until Friday"]
    with pytest.raises(ResourceError, match=r"ann since .*trade fair"):
        require_free(tmp_path)
    assert unhold(tmp_path, {"release": None})["removed"] == made
    require_free(tmp_path)
    assert unhold(tmp_path, {}) == {"removed": [], "holds": []}


def test_a_held_release_does_not_hold_the_target(tmp_path: Path) -> None:
    root = target(tmp_path)
    hold(root, {"release": RELEASE, "by": "ann", "reason": "audit"})
    require_free(root)
    assert held_releases(root) == {RELEASE}
    (root / "releases" / RELEASE).rmdir()
    assert [row["release"] for row in unhold(root, {"release": RELEASE})["removed"]] == [RELEASE]


def test_the_same_user_again_gives_a_new_reason_and_another_user_a_second_hold(tmp_path: Path) -> None:
    for by, reason in (("ann", "a"), ("bob", "b"), ("ann", "c")):
        hold(tmp_path, {"by": by, "reason": reason})
    assert [(row["by"], row["reason"]) for row in holds(tmp_path)] == [("ann", "c"), ("bob", "b")]
    assert len(unhold(tmp_path, {})["removed"]) == 2


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"by": "ann"}, "reason"),
        ({"by": "ann", "reason": " \n"}, "reason"),
        ({"by": 7, "reason": "x"}, "by"),
        ({"by": "ann", "reason": "x" * 501}, "reason"),
        ({"by": "ann", "reason": "x", "release": "0009-00000000"}, RELEASE),
        ({"by": "ann", "reason": "x", "release": "../.."}, RELEASE),
    ],
)
def test_a_request_that_is_not_understood_is_refused_and_changes_nothing(
    tmp_path: Path, document: dict[str, object], problem: str
) -> None:
    root = target(tmp_path)
    with pytest.raises(DataError, match=problem):
        hold(root, document)
    assert not (root / FILE).exists()


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "[{}]", '[{"release": "../x", "by": "a", "since": "b", "reason": "c"}]', "[" * 3000, "\x00"],
)
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    for read in (lambda: holds(tmp_path), lambda: require_free(tmp_path), lambda: unhold(tmp_path, {})):
        with pytest.raises(StateError, match="holds"):
            read()


def test_the_record_is_replaced_whole(tmp_path: Path) -> None:
    hold(tmp_path, {"by": "ann", "reason": "é"})
    assert json.loads((tmp_path / FILE).read_text())[0]["reason"] == "é"
    assert {p.name for p in tmp_path.iterdir()} == {FILE, f".{FILE}.lock"}


def test_verbs_of_the_agent(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    made = agent.call("hold", {"by": "ann", "reason": "fair"})
    assert agent.call("holds", {}) == made
    assert agent.call("unhold", {})["removed"] == made["holds"]
