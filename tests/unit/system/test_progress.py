"""Events of a stage: progress is thinned, figures and notes are not, and every line is whole."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from slipway.system import progress as module
from slipway.system.progress import Progress


def events(file: Path) -> list[dict]:
    return [{k: v for k, v in json.loads(line).items() if k != "t"} for line in file.read_text().splitlines()]


def test_progress_is_thinned_but_not_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0], time=lambda: 0.0))
    with Progress(tmp_path / "p", every_s=0.5) as progress:
        for done, second in ((1, 100), (2, 100.1), (3, 100.6), (4, 100.7)):
            now[0] = second
            progress.update("train", done, 4, "steps", loss=0.5)
        progress.update("train", 5, None, "steps")
    assert [e["done"] for e in events(tmp_path / "p")] == [1, 3, 4]
    assert events(tmp_path / "p")[0] == {
        "event": "progress",
        "what": "train",
        "done": 1,
        "total": 4,
        "unit": "steps",
        "loss": 0.5,
    }


def test_metrics_and_notes_are_never_dropped_and_are_there_at_once(tmp_path: Path) -> None:
    with Progress(tmp_path / "p", every_s=3600) as progress:
        for step in range(3):
            progress.metric(step, loss=1.0)
            progress.note(f"step {step}")
            assert len(events(tmp_path / "p")) == 2 * (step + 1)


def test_a_second_attempt_appends(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with Progress(tmp_path / "p") as progress:
            progress.note(text)
    assert [e["text"] for e in events(tmp_path / "p")] == ["first", "second"]


def test_without_a_file_nothing_is_kept() -> None:
    with Progress() as progress:
        progress.update("x", 1, 1, "steps")
        progress.note("nobody hears this")
