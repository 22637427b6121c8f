"""Questions asked with their contexts: what is sent, what is scored, and that nothing is asked twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.rag import AnswersConfig
from slipway.engines.chat_client import ChatClient
from slipway.errors import EngineError
from slipway.evaluation.metric import Item
from slipway.rag.answer_metrics import Asked
from slipway.rag.answer_prompt import Passage
from slipway.rag.answer_run import AnswerRun, run_answers
from slipway.system.progress import Progress
from tests.support.scripted_server import scripted

QUESTIONS = [Asked(f"q{n}", f"word{n}", f"word{n} is it", frozenset({"d"})) for n in range(3)]


def contexts(n: int) -> dict[str, tuple[list[Passage], bool]]:
    return {"retrieved": ([Passage("d", f"word{n} is it")], True), "without": ([Passage("e", "else")], False)}


def run(url: str, done: Path, prompt: str, system: str = "") -> list[Item]:
    config = AnswersConfig(prompt=prompt, system=system)
    asked: list[Any] = [(question, contexts(n)) for n, question in enumerate(QUESTIONS)]
    with ChatClient(url, "m", 10) as client:
        return run_answers(AnswerRun(client, config, 2, done, Progress()), asked)


def test_each_arm_is_asked_and_reasoning_is_no_answer(tmp_path: Path) -> None:
    with scripted() as (url, asked):
        items = run(url, tmp_path / "p", "say <think>{question}</think>I do not know {passages}", "Be brief.")
    assert [item["id"] for item in items] == ["q0", "q1", "q2"]
    assert len(asked) == 6 and {body["messages"][0]["content"] for body in asked} == {"Be brief."}
    assert items[0]["answer"].startswith("I do not know") and "word0 is it" in items[0]["answer"]
    assert items[0]["metrics"]["answer_refuses"] == items[0]["metrics"]["answer_refuses_known"] == 1.0


def test_what_was_asked_before_is_not_asked_again(tmp_path: Path) -> None:
    with scripted() as (url, asked):
        first = run(url, tmp_path / "p", "say {question} {passages}")
        count = len(asked)
        assert run(url, tmp_path / "p", "say {question} {passages}") == first
        assert (count, len(asked)) == (6, 6)


def test_a_server_that_refuses_ends_the_evaluation(tmp_path: Path) -> None:
    question: Any = (Asked("q", "refuse", "x", frozenset({"d"})), {"retrieved": ([], False)})
    config = AnswersConfig().model_copy(update={"prompt": "{question}"})
    with (
        scripted() as (url, _),
        ChatClient(url, "m", 10) as client,
        pytest.raises(EngineError, match="the request is too long"),
    ):
        run_answers(AnswerRun(client, config, 1, tmp_path / "p", Progress()), [question])
