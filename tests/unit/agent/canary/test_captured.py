from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from slipway.agent.canary.captured import STATE, CapturedPrompts
from slipway.errors import StateError


def request(text: str = "hello") -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 5, "user": "jo", "stream": True}


def test_nothing_is_stored_unless_a_person_turned_it_on(tmp_path: Path) -> None:
    prompts = CapturedPrompts(tmp_path / "capture")
    prompts.keep(request())
    assert not (tmp_path / "capture").exists() and prompts.status() == {"on": False, "files": 0, "bytes": 0}


def test_prompts_are_redacted_and_for_their_owner_only(tmp_path: Path) -> None:
    prompts = CapturedPrompts(tmp_path / "capture")
    prompts.turn_on(7, 10, "jo@laptop")
    prompts.keep(request("I am jo@mail.example"))
    record = prompts.read(10)[0]
    assert record["request"]["messages"][0]["content"] == "I am <mail>" and record["redacted"] == 1
    assert set(record["request"]) == {"messages", "max_tokens"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in prompts.files()} == {0o600}
    assert stat.S_IMODE((tmp_path / "capture").stat().st_mode) == 0o700
    status = prompts.status()
    assert status["on"] and status["by"] == "jo@laptop" and status["bytes"] > 0


def test_the_newest_are_read_and_off_may_forget(tmp_path: Path) -> None:
    prompts = CapturedPrompts(tmp_path)
    prompts.turn_on(7, 10, "jo")
    for i in range(5):
        prompts.keep(request(f"p{i}"))
    assert [record["request"]["messages"][0]["content"] for record in prompts.read(2)] == ["p3", "p4"]
    assert prompts.turn_off() == 0
    prompts.keep(request("after"))
    assert len(prompts.read(10)) == 5
    assert prompts.turn_off(forget=True) == 1 and prompts.files() == []


def test_what_is_too_old_or_too_much_is_deleted(tmp_path: Path) -> None:
    prompts = CapturedPrompts(tmp_path)
    rule = prompts.turn_on(1, 0.01, "jo")  # 10 kB: a file holds about 1 kB
    for i in range(40):
        prompts.keep(request(f"{i} " + "x" * 600))
    assert 2 < len(prompts.files()) < 15
    assert sum(file.stat().st_size for file in prompts.files()) < 13_000
    assert prompts.read(1)[0]["request"]["messages"][0]["content"].startswith("39")
    old = prompts.files()[0]
    os.utime(old, (time.time() - 90000,) * 2)
    assert prompts.prune(rule) == 1 and not old.exists()


def test_a_half_written_last_line_is_passed_over_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    prompts = CapturedPrompts(tmp_path)
    prompts.turn_on(7, 10, "jo")
    prompts.keep(request("whole"))
    file = prompts.files()[0]
    with file.open("a") as out:
        out.write('{"at": "20')
    assert len(prompts.read(10)) == 1
    for text in ("{\n", '{\n{"at": "20'):
        file.write_text(text)
        with pytest.raises(StateError, match=r"captured prompts.*line 1"):
            prompts.read(10)
    (tmp_path / STATE).write_text("[]")
    with pytest.raises(StateError, match="capture"):
        prompts.rule()
