"""Items of an evaluation made several at a time: in their order, and only once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slipway.evaluation.resumable import resumable
from slipway.system.progress import Progress


def run(file: Path, work: Mapping[str, Callable[[], dict[str, Any]]], slots: int = 1) -> dict[str, dict[str, Any]]:
    return resumable(work, slots, file, Progress(), "things", lambda made: {"made": float(len(made))})


def test_results_are_in_the_order_of_the_work(tmp_path: Path) -> None:
    work = {name: partial(dict, value=name * 2) for name in ("c", "a", "b")}
    made = run(tmp_path / "p.jsonl", work, slots=3)
    assert list(made.items()) == [("c", {"value": "cc"}), ("a", {"value": "aa"}), ("b", {"value": "bb"})]


def test_what_was_made_before_an_interruption_is_not_made_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def one(name: str) -> dict[str, Any]:
        calls.append(name)
        if name == "b" and calls.count("b") == 1:
            raise RuntimeError("gone")
        return {"text": f"half a pair \ud800 of {name}"}

    work, file = {name: partial(one, name) for name in ("a", "b", "c")}, tmp_path / "p.jsonl"
    with pytest.raises(RuntimeError):
        run(file, work)
    assert calls[:2] == ["a", "b"]
    with file.open("a") as out:
        out.write('{"id": "c", "made": {"te')
    made = run(file, work)
    assert calls.count("a") == 1 and calls.count("b") == 2
    assert {name: row["text"] for name, row in made.items()} == {n: f"half a pair \ud800 of {n}" for n in "abc"}
    assert run(file, work) == made
    assert calls.count("b") == 2, "all were done"
