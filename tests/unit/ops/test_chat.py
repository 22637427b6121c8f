"""A conversation with a model that does what it is told: its answers with their passages, and an agent's steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slipway.config.load import Config, parse
from slipway.errors import ConfigError, EngineError
from slipway.ops.chat import HISTORY, ChatRoom, open_room
from slipway.store.usage import INDEX_POINTER
from tests.support import faq
from tests.support.pico_embedder import pico_embedder
from tests.support.scripted_server import scripted


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """An index that is searched by words, and a prompt by which the scripted model says the question."""
    params = pico_embedder(tmp_path / "model")
    faq.built_index(tmp_path / "store/index/k", params, cache=tmp_path)
    (tmp_path / "store" / INDEX_POINTER).write_text("k bm25\n")
    answers = {"prompt": "say {question} {passages}", "context_tokens": 64}
    rag = {"embedder": params.model_dump(mode="json"), "answers": answers}
    store = {"root": str(tmp_path / "store"), "cache": str(tmp_path / "cache")}
    return parse({"rag": rag, "store": store, "agent": {"kind": "intents"}}, "a test")


@contextmanager
def room(config: Config, *, index: bool = True) -> Iterator[tuple[ChatRoom, list[dict[str, Any]]]]:
    place = Path(config.store.root) / "index/k" if index else None
    with scripted() as (url, asked), open_room(config, (url, "m", None), 30, place, None) as opened:
        yield opened, asked


def test_an_answer_has_the_passages_that_it_was_given(config: Config) -> None:
    heard: list[str] = []
    with room(config) as (opened, asked):
        reply = opened.conversation().answer("word1list of [1]", heard.append)
    assert reply.sources[0].document == "d1" and "word1list" in reply.sources[0].text
    assert [one.number for one in reply.sources] == list(range(1, len(reply.sources) + 1))
    assert [one.cited for one in reply.sources] == [True, *[False] * (len(reply.sources) - 1)]
    assert all(one.text in asked[0]["messages"][-1]["content"] for one in reply.sources)
    assert "".join(heard).strip() == reply.text and len(heard) > 3, "piece by piece"
    assert reply.tokens == len(reply.text.split(" ")) and reply.seconds > 0


def test_earlier_turns_go_along_without_their_passages(config: Config) -> None:
    with room(config) as (opened, asked):
        conversation = opened.conversation()
        for number in range(HISTORY + 2):
            conversation.answer(f"word{number}list")
        opened.conversation().answer("word1list")
    messages = asked[HISTORY + 1]["messages"]
    questions = [message["content"] for message in messages if message["role"] == "user"]
    assert len(messages) == 2 * HISTORY + 1 and questions[:-1] == ["word1list", "word2list"]
    assert questions[-1].startswith("say word3list <passage 1>")
    assert len(asked[-1]["messages"]) == 1, "another conversation"


def test_without_an_index_a_question_is_asked_as_it_is(config: Config) -> None:
    with room(config, index=False) as (opened, asked):
        assert opened.conversation().answer("say no more").sources == ()
        with pytest.raises(EngineError, match="the request is too long"):
            opened.conversation().answer("refuse")
    assert asked[0]["messages"] == [{"role": "user", "content": "say no more"}]


def test_an_agent_shows_its_steps_and_what_changed(config: Config) -> None:
    with room(config, index=False) as (opened, _):
        reply = opened.conversation().act("HassMediaNext")
        wrong = opened.conversation().act("fly to the moon")
    assert reply.steps[0].startswith('model: {"intent": "HassMediaNext"}')
    assert reply.steps[-1].startswith("HassMediaNext: ") and reply.tokens > 0
    assert wrong.changes == {} and "there is no tool" in wrong.text
    assert len(wrong.steps) >= 2 and wrong.steps[0].startswith("model: ") and "not done" in wrong.steps[-1]


def test_an_agent_that_is_off_is_not_there_and_a_retriever_has_a_name(config: Config) -> None:
    off = config.model_copy(update={"agent": config.agent.model_copy(update={"kind": "off"})})
    with room(off) as (opened, _):
        assert opened.agent_in is None and opened.conversation().answer("word1list").sources
    with scripted() as (url, _), pytest.raises(ConfigError, match="one of bm25, dense, hybrid"):
        open_room(config, (url, "m", None), 30, Path(config.store.root) / "index/k", "magic").__enter__()
