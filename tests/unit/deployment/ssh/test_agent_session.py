"""The orchestrator's end, with the real file in another Python, and with programs that only look like an agent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slipway.deployment.ssh.agent_session import open_session
from slipway.deployment.target_file import target_file
from slipway.errors import ConfigError, EngineError, ResourceError, SlipwayError

GREETING = """print('{"agent": {"protocol": 1}}', flush=True); import sys; """


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("target") / "slipway-target"
    file.write_bytes(target_file())
    return file


def _python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


def test_verbs_are_called_and_their_errors_are_raised_here(program: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-S", str(program), "--root", str(tmp_path / "root"), "session"]
    with open_session(argv, "spark") as session:
        assert session.agent["root"] == str(tmp_path / "root")
        assert session.call("holder", {}) == {"lock": None}
        with pytest.raises(ConfigError, match="verb of the agent: no such"):
            session.call("no such", {})
        assert session.call("probe", {})["disk"]["free"] > 0


def test_notes_are_shown_as_they_come() -> None:
    answers = """sys.stdin.readline(); print('{"note": "one"}\\n{"note": "two"}\\n{"result": {"n": 1}}', flush=True)"""
    notes: list[str] = []
    with open_session(_python(GREETING + answers), "spark") as session:
        assert session.call("x", {}, notes.append) == {"n": 1}
    assert notes == ["one", "two"]


def test_an_agent_that_dies_in_a_verb_is_an_error_with_its_last_words() -> None:
    dies = "sys.stdin.readline(); sys.exit('out of luck')"
    with (
        pytest.raises(EngineError, match="start on spark: the agent ended: out of luck"),
        open_session(_python(GREETING + dies), "spark") as session,
    ):
        session.call("start", {})


def test_who_knows_better_why_it_ended_says_so() -> None:
    def ended(phase: str, words: str) -> SlipwayError:
        return ResourceError(phase, f"cut: {words}", "a link", "plug it in")

    with (
        pytest.raises(ResourceError, match="session: cut: no word of a reason"),
        open_session(_python("pass"), "spark", ended),
    ):
        pass


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("Welcome to Ubuntu", "no profile of the login may print"),
        ("[]", "a JSON object"),
        ('{"agent": {"protocol": 0}}', r"protocol 0; expected protocol 1\. Next: `slipway target set-up`"),
        ('{"agent": {"protocol": 9}}', "bring this machine"),
        ('{"agent": null}', "protocol None"),
    ],
)
def test_what_is_no_agent_of_this_version_is_refused(answer: str, words: str) -> None:
    code = f"print({answer!r}, flush=True); input()"
    with pytest.raises(ConfigError, match=words), open_session(_python(code), "spark"):
        pass


@pytest.mark.parametrize("answer", ['{"result": 1}', '{"error": {"type": "StateError"}}', '{"error": 1}', "{}"])
def test_an_answer_that_is_none_is_refused(answer: str) -> None:
    code = f"{GREETING} sys.stdin.readline(); print({answer!r}, flush=True); sys.stdin.readline()"
    with (
        pytest.raises(ConfigError, match="answer of the agent on spark"),
        open_session(_python(code), "spark") as session,
    ):
        session.call("x", {})
