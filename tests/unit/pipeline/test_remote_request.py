"""One request: lines there and back, over a shell that stands for ssh."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from slipway.pipeline import remote_request
from slipway.pipeline.remote_request import RemoteRequest


def ask(script: str, events: list[Any]) -> tuple[Any, int, str]:
    with tempfile.TemporaryFile() as errors, RemoteRequest(["sh", "-c", script], {"verb": "x"}, errors) as asked:
        result, code = asked.result(events.append), asked.end()
        errors.seek(0)
        return result, code, errors.read().decode()


def test_events_come_before_the_result_and_a_greeting_is_passed_over() -> None:
    events: list[Any] = []
    script = """read line; echo "Welcome {to} all"; echo 7; echo '{"event": 1}'; echo "{\\"result\\": $line}" """
    assert ask(script, events) == ({"result": {"verb": "x"}}, 0, "")
    assert events == [1]


def test_an_end_without_a_result_has_its_code_and_words() -> None:
    assert ask("read line; echo lost >&2; exit 255", []) == (None, 255, "lost\n")


def test_a_program_that_reads_nothing_breaks_no_pipe() -> None:
    assert ask("exec 0<&-; exit 3", [])[:2] == (None, 3)


def test_the_other_side_hears_signs_of_life_and_a_cancel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_request, "ALIVE_S", 0.05)
    heard = tmp_path / "heard"
    script = f"""while read line; do echo "$line" >> {heard}; case $line in *alive*) echo '{{"event": 1}}' ;;
        *cancel*) exit 5 ;; esac; done"""

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with tempfile.TemporaryFile() as errors, RemoteRequest(["sh", "-c", script], {}, errors) as asked:
        with pytest.raises(KeyboardInterrupt):
            asked.result(interrupt)
        asked.cancel(30)
        assert asked.end() == 5
    assert heard.read_text().splitlines()[-1] == '{"cancel": true}'
