"""A conversation with a served model: answers with the passages that they were given, or an agent's turns in a home.

A question is searched in the index, and asked as `answer_eval` asks it: the page that a person looks at shows what was
measured. Earlier turns go along as text, without their passages, as many as `HISTORY`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.config.load import Config
from slipway.config.rag import AnswersConfig
from slipway.engines.chat_client import ChatClient, Message

if TYPE_CHECKING:
    from slipway.agents.attempts import Maker
    from slipway.rag.answer_prompt import Passage
    from slipway.rag.search import Retriever, Searcher
    from slipway.rag.tokens import Ruler

HISTORY = 2  # earlier questions with their answers
Heard = Callable[[str], object]


@dataclass(frozen=True)
class Source:
    """A passage that an answer was given, by its number; `cited`: whether the answer names it."""

    number: int
    document: str
    text: str
    cited: bool


@dataclass(frozen=True)
class Reply:
    """What came of one message. `sources` of an answer; `steps` of an agent, a line each, and `changes` of its home:
    what is now as it was not before. `seconds`: until it was whole; `tokens`: that the model wrote."""

    text: str
    sources: tuple[Source, ...] = ()
    steps: tuple[str, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    tokens: int = 0


@dataclass(frozen=True)
class OpenDocuments:
    """An index that is open, with the way it is searched: `tokens` of context, counted by the embedder's tokenizer."""

    name: str
    searcher: Searcher
    retriever: Retriever
    depth: int
    tokens: int
    tokenizer: Any  # of package tokenizers
    rulers: dict[str, Ruler] = field(default_factory=dict)

    def passages(self, question: str) -> list[Passage]:
        """What goes with a question, best first: as `answer_eval` cuts it."""
        from slipway.rag.answer_prompt import Passage
        from slipway.rag.span_metrics import context
        from slipway.rag.tokens import ruler

        index = self.searcher.index
        ranking = [index.chunks[row] for row, _ in self.searcher.rank(self.retriever, question, self.depth)]
        for name in {chunk.document for chunk in ranking} - self.rulers.keys():
            self.rulers[name] = ruler(index.documents[name], self.tokenizer)
        pieces, _ = context(ranking, self.tokens, self.rulers)
        return [Passage(name, index.documents[name][start:end]) for name, start, end in pieces]


@dataclass(frozen=True)
class ChatRoom:
    """What conversations share: the model, an index where there is one, and what makes agents in a home."""

    model: str
    client: ChatClient
    answers: AnswersConfig
    documents: OpenDocuments | None = None
    agent_in: Maker | None = None
    home: Path | None = None

    def conversation(self) -> Conversation:
        """A new one, with a home of its own where there is an agent."""
        return Conversation(self)


class Conversation:
    """The turns of one person. Not thread-safe: one message at a time."""

    def __init__(self, room: ChatRoom) -> None:
        self._room, self._history = room, list[Message]()
        if room.agent_in is not None:
            from slipway.agents.home import new_home, read_plan

            self._home = new_home(read_plan(room.home), 0)
            self._agent = room.agent_in(self._home)

    def answer(self, question: str, heard: Heard | None = None) -> Reply:
        """The model's answer to a question, of the documents where there is an index; `heard` gets its text piece by
        piece. Raises EngineError when the model does not answer."""
        from slipway.data.reasoning import parted
        from slipway.rag.answer_prompt import cited, user_turn

        asked, documents = self._room.answers, self._room.documents
        passages = documents.passages(question) if documents else []
        turn = user_turn(asked.prompt, question, passages) if documents else question
        system: list[Message] = [{"role": "system", "content": asked.system}] if asked.system else []
        messages = [*system, *self._history, {"role": "user", "content": turn}]
        answer = self._room.client.ask(messages, asked.max_new_tokens, heard=heard)
        text = parted(answer.text)[1].strip()
        earlier: list[Message] = [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
        self._history = [*self._history, *earlier][-2 * HISTORY :]
        named = set(cited(text))
        sources = (Source(n, one.document, one.text, n in named) for n, one in enumerate(passages, 1))
        return Reply(text, tuple(sources), seconds=answer.seconds, tokens=answer.completion_tokens)

    def act(self, request: str) -> Reply:
        """An agent's turn in this conversation's home. Raises EngineError when the model does not answer."""
        from slipway.agents.home import changes

        before, begin = self._home.copy(), time.monotonic()
        turn = self._agent.turn(request)
        steps = list[str]()
        for step in turn.steps:
            for one in step.attempts:
                steps.append(f"model: {one['answer']}" + (f" ({one['problem']})" if one["problem"] else ""))
            steps.append(step.line() + (" (from memory)" if step.by == "memory" else ""))
        steps += [f"stopped: {turn.stopped}"] if turn.stopped else []
        changed = changes(before.state, self._home.state)
        text = "; ".join(turn.refusals) or (turn.text if not changed else f"{len(changed)} changed")
        return Reply(text, (), tuple(steps), changed, time.monotonic() - begin, turn.tokens)


@contextmanager
def open_room(
    config: Config, endpoint: tuple[str, str, str | None], timeout_s: float, index: Path | None, retriever: str | None
) -> Iterator[ChatRoom]:
    """Open what a chat needs, once for all its conversations. `endpoint`: URL, model and key; `index`: directory of an
    index, None for none; `retriever`: None for the one that was chosen with the index built last, else hybrid.

    Raises StateError for a changed index or another embedder, ConfigError for a retriever that it has not and for a
    server that passes no tools to an agent that needs them, EngineError when the model does not answer that question.
    """
    from slipway.agents.making import agents_at

    url, model, key = endpoint
    documents = _open_documents(config, index, retriever) if index else None
    home = Path(config.agent.home) if config.agent.home else None
    agents = agents_at(url, model, config.agent, timeout_s, key) if config.agent.kind != "off" else nullcontext(None)
    with ChatClient(url, model, timeout_s, retries=0, key=key) as client, agents as agent_in:
        yield ChatRoom(model, client, config.rag.answers or AnswersConfig(), documents, agent_in, home)


def _open_documents(config: Config, path: Path, retriever: str | None) -> OpenDocuments:
    from slipway.ops.index_pointer import pointer
    from slipway.ops.searching import open_searcher
    from slipway.rag.embedder_files import TOKENIZER, embedder_files
    from slipway.rag.tokens import tokenizer_of

    how: Any = retriever or (pointer(Path(config.store.root)) or ("", "hybrid"))[1]
    searcher = open_searcher(config, path, how)
    files = embedder_files(config.rag.embedder, Path(config.store.cache))
    tokens = (config.rag.answers or AnswersConfig()).context_tokens
    return OpenDocuments(path.name, searcher, how, config.rag.depth, tokens, tokenizer_of(files.required(TOKENIZER)))
