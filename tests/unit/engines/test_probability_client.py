"""Chat answers with log-probabilities, as engines write them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.engines.probability_client import NoProbabilitiesError, ProbabilityClient, TokenAnswer
from slipway.errors import EngineError
from tests.support.faulty_engine import faulty
from tests.unit.engines.test_token_client import Reply, answering

USER = [{"role": "user", "content": "hello"}]
ENTRY = {
    "token": "a",
    "logprob": -0.5,
    "top_logprobs": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1}],
}


def completion(content: Any, message: dict[str, Any] | None = None) -> dict[str, Any]:
    choice = {"message": message or {"content": "a"}, "finish_reason": "stop", "logprobs": {"content": content}}
    return {"choices": [choice], "usage": {"completion_tokens": 3}}


def ask(reply: Reply, **more: Any) -> TokenAnswer:
    with answering(reply) as url:
        return ProbabilityClient(url, "m", 5).ask(USER, 8, **more)


def test_tokens_come_with_their_log_probabilities_and_the_likeliest_others() -> None:
    bodies: list[dict[str, Any]] = []

    def reply(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        bodies.append(body)
        return 200, completion([ENTRY, {"token": "c", "logprob": None}])

    answer = ask(reply, fixed_length=True, tools=[{"type": "function"}])
    assert answer.tokens == ("a", "c") and answer.log_probabilities == (-0.5, None)
    assert answer.alternatives == ((("a", -0.5), ("b", -1.0)), ())
    assert (answer.text, answer.finish, answer.count) == ("a", "stop", 3)
    assert bodies[0]["logprobs"] is True and bodies[0]["ignore_eos"] is True and bodies[0]["temperature"] == 0


def test_thinking_and_calls_of_tools_are_part_of_the_text() -> None:
    call = {"function": {"name": "lamp", "arguments": '{"on":true}'}}
    message = {"content": None, "reasoning": "hm ", "tool_calls": [call]}
    assert ask(lambda *_: (200, completion([], message)), probabilities=False).text == 'hm lamp({"on":true})'


@pytest.mark.parametrize("reply", [(400, {"error": "logprobs"}), (200, completion(None)), (200, completion([]))])
def test_an_engine_without_log_probabilities_is_told_from_one_that_fails(reply: tuple[int, Any]) -> None:
    with pytest.raises(NoProbabilitiesError):
        ask(lambda *_: reply)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((500, b"boom"), "HTTP 500: boom"),
        ((200, b"<html>"), "expected a chat completion"),
        ((200, {"choices": []}), "IndexError"),
        ((200, b'{"choices": [{"message": {}, "finish_reason": "stop", "logprobs": {"content": [{"token": "a", '
               b'"logprob": NaN}]}}]}'), "log-probability nan of token 0"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_one_error(reply: tuple[int, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        ask(lambda *_: reply)


def test_nobody_there_is_an_engine_error() -> None:
    with pytest.raises(EngineError, match="expected an answer"):
        ProbabilityClient("http://127.0.0.1:9/v1", "m", 2).ask(USER, 8)


def test_the_faulty_engine_speaks_this_api() -> None:
    with faulty("endless") as url:
        answer = ProbabilityClient(url, "m", 5).ask(USER, 8)
    assert (len(answer.tokens), answer.finish) == (8, "length")
