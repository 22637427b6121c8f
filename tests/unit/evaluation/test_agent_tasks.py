"""Agents scored by end states: hand-made attempts, and the metrics that they add up to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway.agents.attempts import Attempt
from slipway.agents.tasks import Expected, Task, TaskTurn
from slipway.agents.turns import Step, Turn
from slipway.evaluation.agent_tasks import METRICS, score, summarize, write_evaluation

OFF = {"intent": "HassTurnOff", "name": "tv"}


def task(kind: str = "single", **expected: Any) -> Task:
    gold = [OFF] if expected else []
    return Task(
        id=f"{kind}{len(expected)}", kind=kind, template="t", turns=[TaskTurn(request="turn off the tv", gold=gold)],
        expected=Expected(**expected),
    )  # fmt: skip


def tried(
    changes: dict[str, Any], *, answer: Any = OFF, readings: tuple[dict[str, Any], ...] = (), **step: Any
) -> Attempt:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    steps = [Step("turn off the tv", attempts=[{"answer": text, "problem": ""}], **step)]
    return Attempt([Turn("turn off the tv", steps, tokens=5)], changes, readings)


def test_solved_is_the_exact_end_state_and_nothing_else() -> None:
    wanted = task(changes={"devices.den/tv.state": "off"})
    right = score(wanted, tried({"devices.den/tv.state": "off"}))["metrics"]
    more = score(wanted, tried({"devices.den/tv.state": "off", "devices.den/lamp.on": True}))["metrics"]
    reading = score(wanted, tried({"devices.den/tv.state": "off"}, readings=({"tool": "x"},)))["metrics"]
    nothing = score(wanted, tried({}))["metrics"]
    assert [one["agent_success"] for one in (right, more, reading, nothing)] == [1.0, 0.0, 0.0, 0.0]
    assert right["agent_single"] == 1.0
    assert right["agent_acted_unasked"] is None, "something was to be changed here"


def test_exact_is_the_first_answer_key_for_key() -> None:
    wanted = task(changes={"devices.den/tv.state": "off"})
    same_end = {**OFF, "area": "den"}
    assert score(wanted, tried({"devices.den/tv.state": "off"}, answer=same_end))["metrics"]["agent_exact"] == 0.0
    assert score(wanted, tried({}, answer='{"name": "tv", "intent": "HassTurnOff"}'))["metrics"]["agent_exact"] == 1.0
    assert score(wanted, tried({}, answer="no json"))["metrics"]["agent_exact"] == 0.0
    assert score(task("two", changes={"x": 1}), tried({}))["metrics"]["agent_exact"] is None


def test_acting_where_nothing_may_change_is_counted() -> None:
    quiet = task("unknown_room")
    assert score(quiet, tried({}))["metrics"]["agent_acted_unasked"] == 0.0
    acted = score(quiet, tried({"devices.den/tv.state": "off"}))
    assert (acted["metrics"]["agent_acted_unasked"], acted["metrics"]["agent_success"]) == (1.0, 0.0)
    assert acted["answer"] == 'devices.den/tv.state="off"'
    assert acted["expected"] == "nothing"
    assert score(quiet, tried({}, readings=({"tool": "x"},)))["metrics"]["agent_success"] == 0.0


def test_the_document_declares_its_metrics_and_counts_kinds(tmp_path: Path) -> None:
    tasks = [task(changes={"a": 1}), task("unknown_room")]
    attempts = [tried({"a": 1}), tried({"a": 1}, refused="no")]
    items = [score(*pair) for pair in zip(tasks, attempts, strict=True)]
    document = summarize(tasks, items, 0.95)
    values = {entry["name"]: entry["value"] for entry in document["metrics"]}
    assert list(values) == [metric.name for metric in METRICS]
    assert (values["agent_success"], values["agent_single"], values["agent_acted_unasked"]) == (0.5, 1.0, 1.0)
    assert values["agent_refused"] == 0.5
    assert [(row["kind"], row["n"], row["solved"], row["acted_unasked"]) for row in document["kinds"]] == [
        ("single", 1, 1, 0),
        ("unknown_room", 1, 0, 1),
    ]
    write_evaluation(tmp_path, items, [{"id": "\ud800"}], document)
    assert json.loads((tmp_path / "metrics.json").read_text())["n"] == 2
    assert len((tmp_path / "items.jsonl").read_text("ascii").splitlines()) == 2
    assert json.loads((tmp_path / "traces.jsonl").read_text("ascii")) == {"id": "\ud800"}


def test_a_state_of_many_changes_is_shown_in_short() -> None:
    shown = score(task(changes={"a": 1}), tried({f"k{n:02}": n for n in range(40)}))["answer"]
    assert shown.endswith("and 28 more changes")
