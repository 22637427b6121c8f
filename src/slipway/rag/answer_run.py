"""Questions asked with each of their contexts, several at a time, going on where an interrupted evaluation stopped."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.config.rag import AnswersConfig
from slipway.data.reasoning import parted
from slipway.engines.chat_client import ChatClient
from slipway.evaluation.metric import Item
from slipway.evaluation.resumable import resumable
from slipway.rag.answer_metrics import Answered, Asked, score
from slipway.rag.answer_prompt import user_turn
from slipway.system.progress import Progress

if TYPE_CHECKING:
    from slipway.rag.answer_contexts import Arm, Context


@dataclass(frozen=True)
class AnswerRun:
    """How questions are asked: by whom, with which prompt, how many at a time, and the file that keeps what is done."""

    client: ChatClient
    config: AnswersConfig
    slots: int
    done: Path
    progress: Progress


def run_answers(run: AnswerRun, questions: Sequence[tuple[Asked, Mapping[Arm, Context]]]) -> list[Item]:
    """The items of the questions, in their order. Raises EngineError when the model does not answer."""

    def ask(question: Asked, contexts: Mapping[Arm, Context]) -> Item:
        arms: dict[str, Answered] = {arm: _answered(run, question, context) for arm, context in contexts.items()}
        return score(question, arms, run.config.refusal)

    work = {question.id: partial(ask, question, given) for question, given in questions}
    made = resumable(work, run.slots, run.done, run.progress, "questions", _mean_f1)
    return list(made.values())


def _mean_f1(items: Sequence[Item]) -> dict[str, float]:
    return {"answer_f1": statistics.fmean(item["metrics"]["answer_f1"] for item in items)}


def _answered(run: AnswerRun, question: Asked, context: Context) -> Answered:
    passages, relevant = context
    system = [{"role": "system", "content": run.config.system}] if run.config.system else []
    turn = {"role": "user", "content": user_turn(run.config.prompt, question.text, passages)}
    answer = run.client.ask([*system, turn], run.config.max_new_tokens)
    text = parted(answer.text)[1].strip()
    return Answered(text, passages, relevant, answer.finish, answer.completion_tokens, answer.retries)
