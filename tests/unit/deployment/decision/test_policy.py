"""Who may replace what: the table of cases, each with the rule that decides it."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.deployment.decision.policy import Asked, Incumbent, Policy, Request, Requester, ruling

SERVING, NEW = "a" * 64, "b" * 64


def request(by: Requester = "schedule", **changes: Any) -> Request:
    """A candidate that passed its gate against what serves."""
    fields = {"engine": NEW, "line": "home", "outcome": "pass", "compared_with": frozenset({SERVING})}
    return Request(by=by, **{**fields, **changes})


def incumbent(chosen_by: Requester | None = "schedule", line: str = "home") -> Incumbent:
    return Incumbent("0001-aaaaaaaa", line, SERVING, chosen_by)


CASES: list[tuple[str, Request, Incumbent | None, Policy, list[str], tuple[str, str]]] = [
    ("first release of a schedule", request(), None, "own-line", [], ("replace", "first")),
    ("first release although runs never replace", request(), None, "never", [], ("replace", "first")),
    ("first release although runs ask", request(), None, "ask", [], ("replace", "first")),
    ("schedule, its own champion", request(), incumbent(), "own-line", [], ("replace", "own line")),
    ("event, a schedule's champion", request("event"), incumbent(), "own-line", [], ("replace", "own line")),
    ("schedule, a person's champion", request(), incumbent("person"), "own-line", [], ("ask", "a person's choice")),
    ("event, a person's champion", request("event"), incumbent("person"), "own-line", [], ("ask", "a person's choice")),
    ("schedule, nobody knows whose", request(), incumbent(None), "own-line", [], ("ask", "a person's choice")),
    ("schedule, another line", request(), incumbent(line="support"), "own-line", [], ("keep", "another line")),
    ("schedule, another line, ask", request(), incumbent(line="support"), "ask", [], ("keep", "another line")),
    (
        "schedule, champion changed since the gate",
        request(compared_with=frozenset({"c" * 64})),
        incumbent(),
        "own-line",
        [],
        ("keep", "not compared"),
    ),
    ("person's run, another line", request("person"), incumbent(line="x"), "own-line", [], ("replace", "person")),
    ("person's run, a person's", request("person"), incumbent("person"), "own-line", [], ("replace", "person")),
    ("person's run, ask", request("person"), incumbent(), "ask", [], ("ask", "policy ask")),
    ("person's run, never", request("person"), incumbent(), "never", [], ("keep", "policy never")),
    ("schedule, ask", request(), incumbent(), "ask", [], ("ask", "policy ask")),
    ("by hand, never", request("person", by_hand=True), incumbent(), "never", [], ("replace", "by hand")),
    ("by hand, ask", request("person", by_hand=True), incumbent("person"), "ask", [], ("replace", "by hand")),
    ("by hand, first", request("person", by_hand=True), None, "own-line", [], ("replace", "by hand")),
    ("by hand, held", request("person", by_hand=True), incumbent(), "own-line", ["ann: fair"], ("keep", "hold")),
    ("schedule, held", request(), incumbent(), "own-line", ["ann: fair"], ("keep", "hold")),
    ("schedule, rolled back", request(withdrawn=True), incumbent("person"), "ask", [], ("keep", "rolled back")),
    ("named, rolled back", request("person", by_hand=True, named=True, withdrawn=True), incumbent(), "own-line",
     [], ("replace", "by hand")),
    ("by hand, rolled back, the newest", request("person", by_hand=True, withdrawn=True), incumbent(), "own-line", [],
     ("keep", "rolled back")),
    ("same engine, another index, by hand", request("person", by_hand=True, engine=SERVING, index="i"), incumbent(),
     "never", [], ("replace", "by hand")),
    ("same engine, another index, never", request(engine=SERVING, index="i"), incumbent(), "never", [],
     ("keep", "policy never")),
    ("same engine, another index: nothing of the engine to compare", request(engine=SERVING, index="i",
     compared_with=frozenset()), incumbent(), "own-line", [], ("replace", "own line")),
    ("same engine", request(engine=SERVING), incumbent("person", "other"), "never", [], ("replace", "same engine")),
    ("failed, by hand", request("person", by_hand=True, outcome="fail"), incumbent(), "own-line", [], ("keep", "gate")),
    ("inconclusive, schedule", request(outcome="inconclusive"), incumbent(), "own-line", [], ("ask", "inconclusive")),
    ("inconclusive, by hand", request("person", by_hand=True, outcome="inconclusive"), incumbent(), "own-line", [],
     ("ask", "inconclusive")),
    ("inconclusive, first", request(outcome="inconclusive"), None, "own-line", [], ("ask", "inconclusive")),
    ("inconclusive, another line", request(outcome="inconclusive"), incumbent(line="x"), "own-line", [],
     ("keep", "another line")),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "serves", "policy", "holds", "expected"), [c[1:] for c in CASES],
                         ids=[c[0] for c in CASES])  # fmt: skip
def test_who_may_replace_what(
    asked: Request, serves: Incumbent | None, policy: Policy, holds: list[str], expected: tuple[str, str]
) -> None:
    decided = ruling(asked, serves, policy, holds)
    assert (decided.action, decided.rule) == expected
    assert decided.reason


def test_a_reason_names_the_release_that_stays_and_who_holds() -> None:
    assert "0001-aaaaaaaa is of line support" in ruling(request(), incumbent(line="support"), "own-line", []).reason
    held = ruling(request(), incumbent(), "own-line", ["held by ann since Monday: trade fair"])
    assert "held by ann since Monday: trade fair" in held.reason
    assert "slipway unhold" in held.reason


def test_a_release_says_who_asked() -> None:
    assert Asked().by == "person"
    assert Asked.model_validate({"by": "schedule", "user": "ann"}).user == "ann"
    with pytest.raises(ValueError, match="by"):
        Asked.model_validate({"by": "robot"})
