"""What a decision looks at, on a real target."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.deploy import DeployConfig
from slipway.deployment.decision.holding import hold
from slipway.deployment.decision.incumbent import decide, incumbent, require_unchanged, this_user
from slipway.deployment.decision.policy import Asked
from slipway.deployment.promotion import promote, rollback
from slipway.deployment.state import rival, status, stop
from slipway.errors import ResourceError
from slipway.store.artifacts import Dataset, Engine, Verdict
from slipway.store.store import Store
from tests.support.searched import searchable, searched_verdict
from tests.support.target import make_engine, make_verdict


def judged(store: Store, **model: object) -> tuple[Engine, Verdict]:
    engine = make_engine(store, {"answer": "x", **model})
    return engine, make_verdict(store, engine)


def test_the_weekly_schedule_does_not_replace_what_a_person_shipped(
    store: Store, data: Dataset, params: DeployConfig
) -> None:
    engine, verdict = judged(store)
    shipped = promote(engine, verdict, data, {}, params, model="home", asked=Asked(by="person", user="ann"))
    serving = incumbent(status(params))
    assert serving is not None
    assert (serving.release, serving.chosen_by) == (shipped.name, "person")
    candidate, its_verdict = judged(store, v=2)
    weekly = decide(candidate, its_verdict, "home", Asked(by="schedule"), params)
    assert (weekly.ruling.action, weekly.ruling.rule) == ("keep", "not compared")
    assert decide(candidate, its_verdict, "other", Asked(by="schedule"), params).ruling.rule == "another line"
    assert decide(candidate, its_verdict, "home", Asked(by_hand=True), params).promotes


def test_a_rollback_is_a_person_s_choice_and_a_run_does_not_bring_back_what_it_left(
    store: Store, data: Dataset, params: DeployConfig
) -> None:
    both = [judged(store, v=version) for version in (1, 2)]
    for engine, verdict in both:
        promote(engine, verdict, data, {}, params, model="home", asked=Asked(by="schedule"))
    rollback(params)
    serving = incumbent(status(params))
    assert serving is not None
    assert serving.chosen_by == "person"
    assert decide(*both[1], "home", Asked(by="schedule"), params).ruling.rule == "rolled back"
    stop(params)  # after a rollback and a stop a run does not bring it back either
    assert decide(*both[1], "home", Asked(by="person"), params).ruling.rule == "rolled back"
    assert decide(*both[1], "home", Asked(by_hand=True), params).ruling.rule == "rolled back"
    assert decide(*both[1], "home", Asked(by_hand=True, named=True), params).promotes


def test_what_was_rolled_back_is_an_engine_with_its_index(store: Store, data: Dataset, params: DeployConfig) -> None:
    engine = make_engine(store, {"answer": "x"})
    small, large, other = (searched_verdict(store, engine, searchable(store, count)) for count in (2, 3, 4))
    for verdict in (small, large):
        promote(engine, verdict, data, {}, params, model="home", asked=Asked(by="schedule"))
    rollback(params)
    serving = incumbent(status(params))
    assert serving is not None and serving.index == searchable(store, 2).digest
    run = Asked(by="person")
    assert decide(engine, small, "home", run, params).ruling.rule == "same engine"
    assert decide(engine, large, "home", run, params).ruling.rule == "rolled back"
    assert decide(engine, other, "home", run, params).ruling.rule == "person"


def test_a_hold_refuses_and_a_hold_on_a_release_does_not(store: Store, data: Dataset, params: DeployConfig) -> None:
    release = promote(*judged(store), data, {}, params, model="home")
    hold(params, release.name, "ann", "audit")
    assert decide(*judged(store, v=2), "home", Asked(by_hand=True), params).promotes
    hold(params, None, "ann", "fair")
    decided = decide(*judged(store, v=2), "home", Asked(by_hand=True), params)
    assert (decided.ruling.action, decided.ruling.rule) == ("keep", "hold")
    assert "fair" in decided.ruling.holds[0]


def test_another_champion_than_was_decided_about_is_named(store: Store, data: Dataset, params: DeployConfig) -> None:
    candidate, verdict = judged(store)
    decided = decide(candidate, verdict, "home", Asked(by_hand=True), params)
    assert (decided.champion, decided.ruling.rule) == (None, "by hand")
    assert decided.inputs["engine"] == candidate.digest
    require_unchanged(decided, candidate, verdict, params)
    other = promote(*judged(store, v=2), data, {}, params, model="home")
    with pytest.raises(ResourceError, match=other.name):
        require_unchanged(decided, candidate, verdict, params)


def test_a_hold_since_the_decision_is_named(store: Store, params: DeployConfig) -> None:
    candidate, verdict = judged(store)
    decided = decide(candidate, verdict, "home", Asked(), params)
    hold(params, None, "ann", "fair")
    with pytest.raises(ResourceError, match="fair"):
        require_unchanged(decided, candidate, verdict, params)


def test_a_user_has_a_name_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    assert this_user() == "ann"


def test_two_lines_on_one_target_are_compared_with_their_own(store: Store, data: Dataset, params: DeployConfig) -> None:
    """How a model for other data does on these rows says nothing: it is no rival, and its best release stays it."""
    ours = promote(*judged(store, v=1), data, {}, params, model="home")
    theirs = promote(*judged(store, v=2), data, {}, params, model="office")
    candidate, verdict = judged(store, v=3)
    assert rival(candidate, "home", params) is None
    office = rival(candidate, "office", params)
    assert office and office.name == theirs.name
    assert rival(theirs.engine(store.root), "office", params) is None, "before it another line served"
    assert decide(candidate, verdict, "home", Asked(by="event"), params).ruling.rule == "another line"
    by_hand = decide(candidate, verdict, "home", Asked(by_hand=True), params)
    assert by_hand.promotes and f"did not compare it with {theirs.name}, which serves" in by_hand.ruling.reason
    assert ours.name in [release.name for release in status(params).records]


def test_a_verdict_made_for_another_target_says_what_it_was_not_compared_with(
    store: Store, data: Dataset, params: DeployConfig
) -> None:
    here = promote(*judged(store, v=1), data, {}, params, model="home")
    candidate = make_engine(store, {"answer": "x", "v": 2})
    elsewhere = make_verdict(store, candidate, against=[make_engine(store, {"answer": "x", "v": 9})])
    reason = decide(candidate, elsewhere, "home", Asked(by_hand=True), params).ruling.reason
    assert reason.endswith(f"its gate did not compare it with {here.name}, which serves")
    compared = make_verdict(store, candidate, against=[here.engine(store.root)])
    assert "compare" not in decide(candidate, compared, "home", Asked(by_hand=True), params).ruling.reason


def test_a_release_of_the_first_version_may_be_replaced_by_a_person_and_asks_for_a_schedule(
    store: Store, data: Dataset, params: DeployConfig
) -> None:
    """Its record says neither who asked nor what was tested, and is not signed."""
    old = promote(*judged(store, v=1), data, {}, params, model="home", asked=Asked(by="schedule"))
    file = Path(old.path) / "release.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in document.items() if k not in ("asked", "recorded", "checks", "runs")}))
    candidate = make_engine(store, {"answer": "x", "v": 2})
    verdict = make_verdict(store, candidate, against=[old.engine(store.root)])
    weekly = decide(candidate, verdict, "home", Asked(by="schedule"), params)
    assert (weekly.ruling.action, weekly.champion and weekly.champion.chosen_by) == ("ask", None)
    promoted = promote(candidate, verdict, data, {}, params, model="home", asked=Asked(by_hand=True))
    assert rollback(params).name == old.name != promoted.name


def test_a_clock_that_was_set_back_changes_no_order(
    store: Store, data: Dataset, params: DeployConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history's lines are the order; times are for people."""
    first = promote(*judged(store, v=1), data, {}, params, model="home")
    monkeypatch.setattr("slipway.agent.history.utc_now", lambda: "1999-01-01T00:00:00Z")
    second = promote(*judged(store, v=2), data, {}, params, model="home")
    now = status(params)
    assert now.release and (now.release.name, now.previous) == (second.name, first.name)
    assert now.last["time"] == "1999-01-01T00:00:00Z"
    assert rollback(params).name == first.name and second.digests["engine"][:8] in status(params).withdrawn
