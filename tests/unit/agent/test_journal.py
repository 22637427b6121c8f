"""The journal: what was begun is on the disk before it is done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.agent.journal import BEGINS, DONE, Intent, Journal
from slipway.errors import StateError

INTENT = Intent("i1", "promote", "ann", "2026-01-01T00:00:00Z", None, "0001-aaaaaaaa", True, False)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def test_every_step_is_on_the_disk_before_and_after_it(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real = os.fsync

    def watched(fd: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        real(fd)

    monkeypatch.setattr(os, "fsync", watched)
    assert journal.read() is None
    journal.begin(INTENT)
    with journal.step("staged"):
        assert journal.read() == (INTENT, {"staged": BEGINS})
        before = len(flushed)
    assert before == 3  # the first line, its folder, the step's beginning
    assert journal.read() == (INTENT, {"staged": DONE})
    assert len(flushed) == before + 1
    journal.close()
    assert not journal.is_open()
    journal.close()


def test_an_error_leaves_the_step_begun(journal: Journal) -> None:
    journal.begin(INTENT)
    with pytest.raises(KeyError), journal.step("started"):
        raise KeyError
    assert journal.read() == (INTENT, {"started": BEGINS})


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_line_that_a_power_cut_left_in_half_was_not_written(journal: Journal, tmp_path: Path, cut: int) -> None:
    journal.begin(INTENT)
    with journal.step("staged"):
        pass
    file = tmp_path / "journal.jsonl"
    os.truncate(file, file.stat().st_size - cut)
    assert journal.read() == (INTENT, {"staged": BEGINS})
    os.truncate(file, 5)
    assert journal.read() is None
    assert journal.is_open()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]\n", "line 1"),
        ('{"id": "x"}\n', "line 1: action"),
        ("LINE\n{}\n", "line 2: state: absent"),
        ('LINE\n{"step": "staged", "state": "x"}\n', "line 2: state"),
        ("LINE\nx\n", "line 2"),
    ],
)
def test_a_file_that_is_no_journal_is_named(journal: Journal, tmp_path: Path, text: str, message: str) -> None:
    journal.begin(INTENT)
    file = tmp_path / "journal.jsonl"
    file.write_text(text.replace("LINE", file.read_text().strip()))
    with pytest.raises(StateError, match=rf"journal\.jsonl, {message}"):
        journal.read()
