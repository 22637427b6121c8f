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


def test_an_answer_that_cannot_be_what_is_wanted_is_not_waited_for() -> None:
    with scripted() as (url, _), ChatClient(url, "m", 5) as client:
        stray = client.ask(user("say no idea at all"), 16, must_start="{")
        object_ = client.ask(user('say  {"intent": "x"}'), 16, must_start="{")
    assert (stray.text, stray.finish, stray.completion_tokens) == ("no ", "abandoned", 1)
    assert (object_.text, object_.finish) == (' {"intent": "x"}', "stop")


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
