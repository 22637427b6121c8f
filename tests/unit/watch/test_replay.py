"""Rows asked again: which ones, as what, and what of those that are not answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.engines.chat_client import ChatClient
from slipway.errors import EngineError
from slipway.watch.baseline import Baseline, baseline_of
from slipway.watch.replay import replay
from tests.support.scripted_server import scripted
from tests.support.watched import Asked


def ask(baseline: Baseline, count: int, seed: str = "s") -> Any:
    with scripted() as (url, bodies), ChatClient(url, "m", 20, 0) as client:
        return replay(baseline, client, count, seed, 2), bodies


def test_both_answers_are_scored_by_the_same_function(serve: Any) -> None:
    config, release = serve([Asked("say on", "on"), Asked("say off now", "on", 7)], expected="on")
    replayed, bodies = ask(baseline_of(release, config), 5)
    answers = {one.id: one for one in replayed.answered}
    assert (answers["r0"].then, answers["r0"].now) == ({"exact": 1.0}, {"exact": 1.0})
    assert (answers["r1"].then, answers["r1"].now) == ({"exact": 1.0}, {"exact": 0.0})
    assert (answers["r1"].tokens_then, answers["r1"].tokens_now, answers["r1"].cluster) == (7, 2, "t1")
    assert {(body["max_tokens"], body["temperature"]) for body in bodies} == {(8, 0)}


def test_looks_choose_other_rows_and_all_labels(serve: Any) -> None:
    config, release = serve([Asked(f"say {word}", word) for _ in range(20) for word in ("on", "off", "dim")])
    baseline = baseline_of(release, config)
    one, other = (ask(baseline, 9, seed)[0] for seed in ("0001 1.1", "0001 2.1"))
    assert {row.id for row in one.answered} != {row.id for row in other.answered}
    assert sorted(int(row.id[1:]) % 3 for row in one.answered) == [0] * 3 + [1] * 3 + [2] * 3


def test_rows_without_an_answer_are_counted_and_all_of_them_are_an_error(serve: Any, tmp_path: Path) -> None:
    config, release = serve([Asked("say on", "on"), Asked("say on", "on"), Asked("refuse", "on")])
    replayed, _ = ask(baseline_of(release, config), 5)
    assert (replayed.asked, len(replayed.answered)) == (3, 2)
    assert "HTTP 400" in replayed.reason
    with ChatClient("http://127.0.0.1:9/v1", "m", 2, 0) as client, pytest.raises(EngineError, match="none of 3"):
        replay(baseline_of(release, config), client, 5, "s", 2)
