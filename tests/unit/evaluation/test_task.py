"""The task by the training answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.config.evaluate import EvaluateConfig
from slipway.evaluation.task import answer_limit, look, task_of


def rows(answers: list[Any]) -> list[dict[str, Any]]:
    """A row an answer: text, or a dict as the call of a tool."""
    call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {}}]}
    texts = [call if isinstance(a, dict) else {"role": "assistant", "content": a} for a in answers]
    return [{"messages": [{"role": "user", "content": "?"}, message]} for message in texts]


FREE = [f"A sentence of its own, number {i} of some." for i in range(30)]


@pytest.mark.parametrize(
    ("answers", "label_key", "kind", "primary"),
    [
        ([json.dumps({"intent": str(i)}) for i in range(30)], "intent", "json", "json_exact"),
        ([json.dumps({"intent": str(i)}) for i in range(30)], None, "json", "json_exact"),
        ([json.dumps({"a": i}) for i in range(29)] + ["sorry"], None, "json", "json_exact"),
        (["positive", "negative", " positive"] * 10, None, "label", "label_accuracy"),
        (["1", "2", "3", "4", "5"] * 6, None, "label", "label_accuracy"),
        ([str(i * 7) for i in range(30)], None, "number", "numeric"),
        (FREE, None, "text", "chrf"),
        (FREE[:5] + ["{}"] * 4, None, "text", "chrf"),
        ([{"call": 1}] * 20 + FREE[:10], None, "tools", "tool_calls"),
        ([{"call": 1}] * 2 + FREE, None, "text", "chrf"),
    ],
)
def test_the_answers_decide(answers: list[Any], label_key: str | None, kind: str, primary: str) -> None:
    task = task_of(EvaluateConfig(), look(rows(answers), label_key), label_key)
    assert (task.kind, task.metrics[0]) == (kind, primary)
    assert f"task {kind}: " in str(task)
    assert "evaluate.task=" in task.reason
    assert ("label_accuracy" in task.metrics) == (kind == "label" or label_key is not None)


@pytest.mark.parametrize(
    ("answers", "kind", "reason"),
    [
        (
            [f"part {i % 2000}" for i in range(10_000)],
            "label",
            "2000 distinct answers in 10000 training rows, 5.0 rows",
        ),
        ([f"part {i % 2000}" for i in range(9_800)] + [f"rare {i}" for i in range(200)], "label", "2200 distinct"),
        ([f"part {i % 300}" for i in range(900)], "label", "300 distinct answers in 900 training rows, 3.0 rows each"),
        ([f"part {i % 300}" for i in range(899)], "text", "no labels: an answer is in fewer than 3 rows on average"),
        (["ok"] * 9_000 + [f"see you at {i}" for i in range(1_000)], "text", "10% of the rows have an answer that no"),
        (["ok"] * 900 + [f"class {i}" for i in range(100)], "label", "101 distinct answers in 1000 training rows"),
        ([f"{i % 2000}.50" for i in range(10_000)], "number", "all of the training answers are a number"),
        (["yes", "Yes", "yes.", "no"] * 9, "label", "rows each, 3 of them differ in case, white space or punctuation"),
        ([f"{'long ' * 20}{i % 5}" for i in range(100)], "text", "no labels: some have more than 80 characters"),
    ],
)
def test_labels_are_a_closed_set_of_whatever_size(answers: list[Any], kind: str, reason: str) -> None:
    assert look(rows(answers), None)[0] == kind
    assert reason in look(rows(answers), None)[1]


def test_answers_that_are_all_the_same_are_said() -> None:
    assert look(rows(["yes"] * 9), None) == (
        "label",
        "all 9 training answers are 'yes', so a model that only repeats it is right",
    )


def test_the_config_overrides_task_and_metrics() -> None:
    chosen = task_of(EvaluateConfig(task="label"), look(rows(FREE), None), None)
    assert (chosen.kind, chosen.reason) == ("label", "evaluate.task says so")
    assert task_of(EvaluateConfig(metrics=["rouge_l"]), look(rows(FREE), None), None).metrics == ("rouge_l",)


@pytest.mark.parametrize(("longest", "limit"), [(1, 9), (32, 40), (100, 125)])
def test_a_model_may_write_a_quarter_more_than_the_longest_answer(longest: int, limit: int) -> None:
    assert answer_limit(longest) == limit
