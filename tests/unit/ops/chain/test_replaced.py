"""What a run would replace at its target."""

from __future__ import annotations

from pathlib import Path

from slipway.config.load import Config
from slipway.deployment.decision import holding
from slipway.ops.chain.replaced import at_target, rivals
from slipway.store.artifacts import Engine


def changed(config: Config, **values: object) -> Config:
    return config.model_copy(update={"deploy": config.deploy.model_copy(update=values)})


def test_an_empty_target_takes_a_passing_candidate(config: Config) -> None:
    there = at_target(config, None)
    assert (there.release, there.action, there.reason) == ("", "replace", "nothing serves there yet")


def test_a_held_target_keeps_what_serves(config: Config) -> None:
    holding.hold(config.deploy, None, "ada", "trade fair")
    there = at_target(config, Engine(uri="", digest="e" * 64))
    assert there.action == "keep" and "trade fair" in there.reason


def test_a_target_that_is_chosen_later_or_does_not_answer_is_said(config: Config) -> None:
    assert "when it knows" in at_target(changed(config, target="auto"), None).unasked
    Path(config.deploy.root).mkdir(parents=True)
    (Path(config.deploy.root) / "current").write_text("{")
    assert at_target(config, None).target == "local"


def test_nothing_is_compared_with_where_nothing_serves(config: Config) -> None:
    assert rivals(config, None) == rivals(changed(config, target="auto"), None) == {}
