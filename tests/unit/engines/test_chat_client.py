from __future__ import annotations

import pytest

from slipway.engines.chat_client import ChatClient
from slipway.errors import EngineError
from tests.support.scripted_server import scripted


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_an_answer_has_text_counts_and_timings() -> None:
    with scripted() as (url, asked), ChatClient(url, "m", 5) as client:
        answer = client.ask(user("say one two three"), 16)
    assert (answer.text, answer.finish) == ("one two three", "stop")
    assert (answer.prompt_tokens, answer.completion_tokens, answer.retries) == (7, 3, 0)
    assert len(answer.gaps_s) == 2
    assert 0 < answer.ttft_s <= answer.seconds
    assert answer.ttft_s + sum(answer.gaps_s) <= answer.seconds
    assert asked[0]["temperature"] == 0
    assert asked[0]["max_tokens"] == 16
    assert "ignore_eos" not in asked[0]


def test_fixed_length_asks_to_go_on_past_the_end() -> None:
    with scripted() as (url, asked), ChatClient(url, "m", 5) as client:
        client.ask(user("x"), 4, fixed_length=True)
    assert asked[0]["ignore_eos"] is True


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize(
    "text", ["a\u2028b\u0085c", "carriage\rreturn", "\x0b\x0c\x1c", "emoji \U0001f600", "no idea at all"]
)
def test_any_text_that_a_model_writes_arrives_whole(text: str, escaped: bool) -> None:
    """Servers write line separators into their events as they are, or escaped."""
    with scripted() as (url, _), ChatClient(url, "m", 5) as client:
        assert client.ask(user(f"{'escape' if escaped else 'say'} {text}"), 16).text == text


def test_half_a_surrogate_pair_arrives_too() -> None:
    with scripted() as (url, _), ChatClient(url, "m", 5) as client:
        assert client.ask(user("escape x\ud800y"), 16).text == "x\ud800y"


def test_tools_are_offered_and_calls_come_in_pieces() -> None:
    tools = [{"type": "function", "function": {"name": "lamp"}}]
    call = {"type": "function", "function": {"name": "lamp", "arguments": {"on": True}}}
    asked_before = [{"role": "assistant", "content": "", "tool_calls": [call]}, *user("call lamp then fan")]
    with scripted() as (url, asked), ChatClient(url, "m", 5) as client:
        answer = client.ask(asked_before, 16, tools=tools)
    assert answer.calls == ({"name": "lamp", "arguments": '{"on": 1}'}, {"name": "fan", "arguments": '{"on": 1}'})
    assert (answer.text, answer.finish) == ("", "tool_calls")
    assert asked[0]["tools"] == tools
    assert asked[0]["messages"][0]["tool_calls"][0]["function"]["arguments"] == '{"on": true}'
    assert call["function"]["arguments"] == {"on": True}


def test_a_key_is_sent_as_a_bearer_token() -> None:
    with scripted() as (url, asked), ChatClient(url, "m", 5, key="abc") as client:
        client.ask(user("x"), 4)
    assert asked[0]["authorization"] == "Bearer abc"


def test_a_lost_connection_is_tried_again_and_counted() -> None:
    with scripted() as (url, asked), ChatClient(url, "m", 5) as client:
        answer = client.ask(user("flaky a"), 4)
    assert answer.text == '{"intent": "flaky a"}'
    assert answer.retries == 1
    assert len(asked) == 2


def test_a_stream_without_an_end_is_not_an_answer() -> None:
    with (
        scripted() as (url, asked),
        ChatClient(url, "m", 5, retries=1) as client,
        pytest.raises(EngineError, match="2 attempts") as err,
    ):
        client.ask(user("cut"), 4)
    assert "without a finish reason" in str(err.value)
    assert len(asked) == 2


def test_a_refusal_is_not_tried_again() -> None:
    with (
        scripted() as (url, asked),
        ChatClient(url, "m", 5) as client,
        pytest.raises(EngineError, match=r"HTTP 400.*too long"),
    ):
        client.ask(user("refuse"), 4)
    assert len(asked) == 1


def test_nobody_there_names_the_endpoint() -> None:
    with scripted() as (url, _):
        pass
    with ChatClient(url, "m", 5, retries=0) as client, pytest.raises(EngineError, match=url):
        client.ask(user("x"), 4)
