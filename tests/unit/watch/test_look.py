"""A look at a real target: an engine that answers as then, worse, or not; captured prompts; the record of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.canary.captured import CapturedPrompts
from slipway.config.load import Config
from slipway.deployment.state import stop
from slipway.errors import ResourceError
from slipway.watch.look import look
from slipway.watch.look_record import LookRecord
from slipway.watch.spending import WEEK_S
from tests.support.watched import CLASSES, Asked, answer, rows_as_served


def capture(config: Config, *texts: str) -> None:
    """Prompts as the mirror of this target keeps them."""
    prompts = CapturedPrompts(Path(config.deploy.root) / "capture")
    prompts.turn_on(7, 1, "a test")
    for text in texts:
        prompts.keep({"messages": [{"role": "user", "content": text}]})


def test_what_answers_as_then_is_no_drift_and_leaves_a_look(serve: Any) -> None:
    config, release = serve(rows_as_served(40))
    result = look(config)
    assert (result.document["outcome"], result.alarms) == ("ok", [])
    assert (result.document["release"], result.document["rows"]) == (
        release.name, {"asked": 40, "answered": 40, "of": 40}
    )  # fmt: skip
    (recorded,) = LookRecord(Path(config.store.root), "local").looks()
    assert recorded.document == json.loads(json.dumps(result.document))
    assert "say " not in json.dumps(result.document)


def test_what_answers_worse_is_drift(serve: Any) -> None:
    config, _ = serve([Asked(f"say {'on' if i % 2 else 'nothing'}", "on") for i in range(40)], expected="on")
    result = look(config)
    assert [check.name for check in result.alarms] == ["exact"]
    assert (result.alarms[0].value, result.document["outcome"]) == (-0.5, "drift")


def test_captured_prompts_are_compared(serve: Any) -> None:
    config, _ = serve(rows_as_served(90))
    capture(config, *(f"say {answer(CLASSES[i % 3], i + 20)}" for i in range(60)))
    checks = {check.name: check for check in look(config).checks}
    assert checks["input labels"].outcome == "ok", checks["input labels"]
    capture(config, *(f"say weather in town number {i} please and thanks" for i in range(90)))
    result = look(config)
    assert {"input lengths", "input n-grams"} <= {check.name for check in result.alarms}
    assert result.document["traffic"]["captured"] == 150
    assert result.document["look"] == 2


def test_looks_spend_their_release_s_level_and_a_clock_set_back_is_said(serve: Any) -> None:
    config, _ = serve(rows_as_served(14))
    begin = 1_790_000_000.0
    documents = [look(config, clock=lambda at=at: at).document for at in (begin, begin + WEEK_S, begin + 1)]
    assert [d["look"] for d in documents] == [1, 1, 2]
    assert documents[0]["level"] == documents[1]["level"] == pytest.approx(0.05 / 52 * 0.8)
    assert documents[2]["week"] == documents[1]["week"]
    assert "the clock stands 7.0 days before the last look" in documents[2]["notes"][0]


def test_few_rows_cannot_tell(serve: Any) -> None:
    config, _ = serve(rows_as_served(3))
    outcomes = {check.name: check.outcome for check in look(config).checks}
    assert outcomes["exact"] == "cannot_tell"


def test_nothing_serves(serve: Any, tmp_path: Path) -> None:
    config, release = serve(rows_as_served(3))
    stop(config.deploy)
    with pytest.raises(ResourceError, match=f"{release.name} at target local: does not run"):
        look(config)
    empty = config.model_copy(update={"deploy": config.deploy.model_copy(update={"root": str(tmp_path / "empty")})})
    with pytest.raises(ResourceError, match="nothing was released there"):
        look(empty)
    assert LookRecord(Path(config.store.root), "local").looks() == []


def test_rows_that_are_refused_are_an_alarm_with_the_reason(serve: Any) -> None:
    config, _ = serve([Asked("refuse" if i % 20 else "say on", "on") for i in range(40)])  # two are asked when promoted
    (alarm,) = look(config).alarms
    assert (alarm.name, alarm.value) == ("unanswered", 38 / 40)
    assert "HTTP 400" in alarm.reason


def test_a_capture_that_cannot_be_read_is_said_and_the_rest_is_judged(serve: Any) -> None:
    config, _ = serve(rows_as_served(40))
    capture(config, "say on")
    next(Path(config.deploy.root).glob("capture/prompts-*.jsonl")).write_text("no json\n")
    result = look(config)
    lengths = next(check for check in result.checks if check.name == "input lengths")
    assert lengths.reason.startswith("captured prompts cannot be read")
    assert result.document["outcome"] == "ok"
