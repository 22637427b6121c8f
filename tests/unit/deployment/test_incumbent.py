"""What a decision looks at, on a real target."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.holds import hold
from slipway.config.deploy import DeployConfig
from slipway.deployment.incumbent import incumbent, request, require_unchanged, rule_on, standing_holds, this_user
from slipway.deployment.policy import Asked
from slipway.deployment.promotion import promote, rollback
from slipway.errors import ResourceError
from slipway.store.artifacts import Dataset, Engine, Verdict
from slipway.store.store import Store
from tests.support.target import make_engine, make_verdict


def judged(store: Store, **model: object) -> tuple[Engine, Verdict]:
    engine = make_engine(store, {"answer": "x", **model})
    return engine, make_verdict(store, engine)


def test_the_weekly_schedule_does_not_replace_what_a_person_shipped(
    store: Store, data: Dataset, params: DeployConfig
) -> None:
    engine, verdict = judged(store)
    shipped = promote(engine, verdict, data, {}, params, model="home", asked=Asked(by="person", user="ann"))
    serving = incumbent(params)
    assert serving is not None
    assert (serving.release, serving.chosen_by) == (shipped.name, "person")
    candidate, its_verdict = judged(store, v=2)
    weekly = request(candidate, its_verdict, "home", Asked(by="schedule"), params, by_hand=False)
    assert rule_on(weekly, params)[0].action == "keep"  # its gate compared it with nothing
    by_hand = request(candidate, its_verdict, "home", Asked(), params, by_hand=True)
    assert rule_on(by_hand, params)[0].action == "replace"


def test_a_rollback_is_a_person_s_choice_and_a_run_does_not_bring_back_what_it_left(
    store: Store, data: Dataset, params: DeployConfig
) -> None:
    both = [judged(store, v=version) for version in (1, 2)]
    for engine, verdict in both:
        promote(engine, verdict, data, {}, params, model="home", asked=Asked(by="schedule"))
    rollback(params)
    serving = incumbent(params)
    assert serving is not None
    assert serving.chosen_by == "person"
    left = request(*both[1], "home", Asked(by="schedule"), params, by_hand=False)
    assert rule_on(left, params)[0].rule == "rolled back"


def test_a_hold_refuses_and_a_hold_on_a_release_does_not(store: Store, data: Dataset, params: DeployConfig) -> None:
    engine, verdict = judged(store)
    release = promote(engine, verdict, data, {}, params, model="home")
    hold(Path(params.root), {"release": release.name, "by": "ann", "reason": "audit"})
    assert standing_holds(params) == []
    hold(Path(params.root), {"by": "ann", "reason": "fair"})
    wanted = request(*judged(store, v=2), "home", Asked(), params, by_hand=True)
    ruled, serving = rule_on(wanted, params)
    assert (ruled.action, ruled.rule) == ("keep", "hold")
    require_unchanged(ruled, serving, wanted, params)


def test_another_champion_than_was_decided_about_is_named(store: Store, data: Dataset, params: DeployConfig) -> None:
    wanted = request(*judged(store), "home", Asked(), params, by_hand=True)
    ruled, serving = rule_on(wanted, params)
    assert serving is None
    engine, verdict = judged(store, v=2)
    other = promote(engine, verdict, data, {}, params, model="home")
    with pytest.raises(ResourceError, match=other.name):
        require_unchanged(ruled, serving, wanted, params)


def test_a_user_has_a_name_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    assert this_user() == "ann"
