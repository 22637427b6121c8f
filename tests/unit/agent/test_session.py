"""A session over pipes: documents in, answers out, and an agent that is closed when nobody is there any more."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.agent import session as session_module
from slipway.agent.agent import Agent
from slipway.agent.session import LONGEST_LINE, Session
from slipway.errors import StateError


def _echo(agent: Agent, document: dict[str, Any], note: Any) -> dict[str, Any]:
    note("heard")
    return document


def _refuse(agent: Agent, document: dict[str, Any], note: Any) -> dict[str, Any]:
    raise StateError("record", "1", "2", "mend it")


def _fault(agent: Agent, document: dict[str, Any], note: Any) -> dict[str, Any]:
    raise KeyError("x" * 10_000)


def _acquire(agent: Agent, document: dict[str, Any], note: Any) -> dict[str, Any]:
    agent.lock.acquire("me", "a test", 0)
    return {}


def _note_for_ever(agent: Agent, document: dict[str, Any], note: Any) -> dict[str, Any]:
    while True:
        note("still here")


VERBS = {"echo": _echo, "refuse": _refuse, "fault": _fault, "acquire": _acquire, "for-ever": _note_for_ever}


class Line:
    """The orchestrator's end of a session that a thread serves."""

    def __init__(self, agent: Agent, silence_s: float) -> None:
        source, self.to = os.pipe()
        self._answers, sink = os.pipe()
        self.answers = os.fdopen(self._answers)
        self.thread = threading.Thread(target=self._serve, args=(agent, source, sink, silence_s))
        self.thread.start()

    def _serve(self, agent: Agent, source: int, sink: int, silence_s: float) -> None:
        try:
            Session(agent, source, sink, silence_s).serve()
        finally:
            os.close(sink)
            os.close(source)

    def ask(self, line: str) -> dict[str, Any]:
        os.write(self.to, line.encode() + b"\n")
        return self.answer()

    def answer(self) -> dict[str, Any]:
        return dict(json.loads(self.answers.readline()))


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "root", VERBS)


@pytest.fixture
def line(agent: Agent) -> Iterator[Line]:
    line = Line(agent, 60)
    try:
        yield line
    finally:
        os.close(line.to)
        line.thread.join(120)
        line.answers.close()
        assert not line.thread.is_alive()


def test_notes_come_before_the_result_and_empty_lines_are_signs_of_life(line: Line, tmp_path: Path) -> None:
    assert line.answer() == {"agent": {"protocol": 1, "root": str(tmp_path / "root"), "pid": os.getpid()}}
    assert line.ask('\n\n{"verb": "echo", "n": 1}') == {"note": "heard"}
    assert line.answer() == {"result": {"n": 1}}


def test_an_error_goes_over_whole_and_a_fault_is_no_end(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line.answer()
    error = line.ask('{"verb": "refuse"}')["error"]
    assert error == StateError("record", "1", "2", "mend it").to_json()
    fault = line.ask('{"verb": "fault"}')["error"]
    assert fault["value"].startswith("KeyError: 'xxx")
    assert len(fault["value"]) < 300
    assert line.ask('{"verb": "no such"}')["error"]["thing"] == "verb of the agent"


@pytest.mark.parametrize("text", ["rubbish", "[]", "{}", '{"verb": 1}', "[" * 100_000, '{"verb": "echo"', "\x00"])
def test_what_is_no_document_is_refused_by_name(line: Line, text: str) -> None:
    line.answer()
    assert line.ask(text)["error"]["thing"] == "document of a session"


def test_an_orchestrator_that_ends_gives_the_lock_back(agent: Agent) -> None:
    line = Line(agent, 60)
    line.answer()
    assert line.ask('{"verb": "acquire"}') == {"result": {}}
    assert agent.lock.held
    os.close(line.to)
    line.thread.join(120)
    assert not agent.lock.held
    line.answers.close()


def test_silence_is_an_end(agent: Agent) -> None:
    line = Line(agent, 0.05)
    line.thread.join(120)
    assert not line.thread.is_alive()
    os.close(line.to)
    line.answers.close()


def test_a_verb_that_runs_when_the_orchestrator_goes_ends_at_its_next_note(agent: Agent) -> None:
    line = Line(agent, 60)
    line.answer()
    assert line.ask('{"verb": "for-ever"}') == {"note": "still here"}
    os.close(line.to)
    for _ in line.answers:
        pass
    line.thread.join(120)
    assert not line.thread.is_alive()
    line.answers.close()


def test_a_line_without_end_is_an_end(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "LONGEST_LINE", LONGEST_LINE // 32)
    line = Line(agent, 60)
    line.answer()
    piece = b"x" * (1 << 20)
    for _ in range(4):
        try:
            os.write(line.to, piece)
        except BrokenPipeError:
            break
    line.thread.join(120)
    assert not line.thread.is_alive()
    os.close(line.to)
    line.answers.close()
