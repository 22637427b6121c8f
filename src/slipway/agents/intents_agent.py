"""Kind `intents`: a model that answers one command with one JSON intent, driven by our own small runner.

Split the request; complete what leans on the last command from memory, without the model; ask with a JSON Schema made
of the tools; check the answer against its tool's schema and against the words of the request; call. An answer that is
wrong in form or says what was not asked is repaired at most `repairs` times. What is unknown in this home is refused:
asking again would make the model guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway.agents.grounding import ungrounded
from slipway.agents.home import Home, Refusal
from slipway.agents.intents import answer_schema, problem_of
from slipway.agents.requests import Memory, from_memory, parts_of, without_pronoun
from slipway.agents.tools import call
from slipway.agents.turns import Step, Turn, with_documents
from slipway.config.agent import AgentConfig
from slipway.data import strict_json
from slipway.engines.chat_client import Answer, ChatClient, Message

Ask = Callable[[Sequence[Message], Mapping[str, Any]], Answer]


def asking(client: ChatClient, config: AgentConfig) -> Ask:
    """How a model behind an endpoint is asked: greedily, held to the schema."""
    return lambda messages, schema: client.ask(messages, config.max_new_tokens, schema=schema)


@dataclass
class IntentsAgent:
    """One conversation about one home. Not thread-safe: each conversation has an agent of its own."""

    ask: Ask
    home: Home
    config: AgentConfig
    memory: Memory = field(default_factory=Memory)

    def turn(self, request: str, documents: Sequence[str] = ()) -> Turn:
        """Carry out a request. `documents`: texts that go with it as material: shown to the model where
        `agent.documents` says so, and then too they may name no target and no value.

        Raises EngineError when the model does not answer; all else that goes wrong is in the turn.
        """
        turn = Turn(request)
        parts = parts_of(request) if self.config.split else [request]
        if len(parts) > self.config.max_steps:
            turn.stopped = f"{len(parts)} commands are more than agent.max_steps={self.config.max_steps}"
            return turn
        for part in parts:
            turn.steps.append(self._step(part, documents, turn))
        turn.text = "; ".join(step.line() for step in turn.steps)
        return turn

    def _step(self, request: str, documents: Sequence[str], turn: Turn) -> Step:
        step = Step(request)
        try:
            answer = from_memory(request, self.memory, self.home.plan)
            if answer is not None:
                step.by = "memory"
            else:
                answer = self._asked(step, documents, turn)
            if answer is not None:
                self._call(step, answer)
        except Refusal as reason:
            step.refused = str(reason)
        if step.refused:
            self.memory.answers.append(None)
        return step

    def _call(self, step: Step, answer: Mapping[str, Any]) -> None:
        """Call the tool of a checked answer. A refusal leaves the home and the memory as they were."""
        step.call = dict(answer)
        step.result = call(self.home, answer["intent"], {k: v for k, v in answer.items() if k != "intent"})
        self.memory.answers.append(dict(answer))

    def _asked(self, step: Step, documents: Sequence[str], turn: Turn) -> dict[str, Any] | None:
        """The model's answer that passed all checks; None after the last repair, with the reason in the step."""
        request = without_pronoun(step.request, self.memory)
        messages: list[Message] = [{"role": "system", "content": self.config.system}] if self.config.system else []
        messages.append(
            {"role": "user", "content": with_documents(request, documents if self.config.documents else ())}
        )
        for _ in range(self.config.repairs + 1):
            reply = self.ask(messages, answer_schema())
            turn.tokens, turn.retries = turn.tokens + reply.completion_tokens, turn.retries + reply.retries
            answer, problem = _read(reply.text)
            problem = problem or ungrounded(request, answer, self.home.plan)
            step.attempts.append({"answer": reply.text, "problem": problem})
            if not problem:
                return answer
            if len(step.attempts) > 1 and reply.text == step.attempts[-2]["answer"]:
                break  # greedy: it would write the same once more
            messages += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": f"{problem}."}]
        step.refused = problem
        return None


def _read(text: str) -> tuple[dict[str, Any], str]:
    """An answer and what is wrong with its form; the answer is empty where it is no JSON object of a tool."""
    try:
        answer = strict_json.parse(text)
    except ValueError as err:
        return {}, f"the answer is no JSON: {err}"[:200]
    problem = problem_of(answer)
    return ({}, problem) if problem else (answer, "")
