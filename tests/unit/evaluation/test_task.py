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


def test_the_config_overrides_task_and_metrics() -> None:
    chosen = task_of(EvaluateConfig(task="label"), look(rows(FREE), None), None)
    assert (chosen.kind, chosen.reason) == ("label", "evaluate.task says so")
    assert task_of(EvaluateConfig(metrics=["rouge_l"]), look(rows(FREE), None), None).metrics == ("rouge_l",)


@pytest.mark.parametrize(("longest", "limit"), [(1, 9), (32, 40), (100, 125)])
def test_a_model_may_write_a_quarter_more_than_the_longest_answer(longest: int, limit: int) -> None:
    assert answer_limit(longest) == limit
