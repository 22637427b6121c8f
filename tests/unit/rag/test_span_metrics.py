"""Metrics against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slipway.rag.chunking import Chunk
from slipway.rag.questions import Question, Span
from slipway.rag.span_metrics import NAMES, context, covered, overlap, score
from slipway.rag.tokens import Ruler

RULERS = {name: Ruler(np.arange(0, 1010, 10)) for name in "de"}  # a token is ten characters
QUESTION = Question("q", "?", (Span("d", 100, 200),))


def chunk(start: int, end: int, document: str = "d") -> Chunk:
    return Chunk(document, start, end, start, end, (end - start) // 10)


def test_a_ranking_by_hand() -> None:
    ranking = [chunk(0, 50, "e"), chunk(90, 140), chunk(130, 180), chunk(180, 260)]
    got = score(QUESTION, ranking, 17, RULERS)
    assert set(got) == set(NAMES)
    assert got["tokens"] == 17  # 5 + 5 + 5, and 2 of 8
    assert got["recall"] == pytest.approx(100 / 100)  # 100 to 140, to 180, to 200
    assert got["precision"] == pytest.approx(100 / 160)  # 50 of e, 90 to 200 of d
    assert (got["hit@1"], got["hit@5"], got["mrr@10"]) == (0, 1, 0.5)  # the second lies half in the gold
    assert got["ndcg@10"] == pytest.approx(0.4 / math.log2(3) + 0.4 / 2 + 0.2 / math.log2(5))


def test_the_last_chunk_is_cut_where_the_budget_ends() -> None:
    assert context([chunk(0, 100), chunk(100, 200)], 13, RULERS) == ([("d", 0, 100), ("d", 100, 130)], 13)
    assert score(QUESTION, [chunk(0, 100), chunk(100, 200)], 13, RULERS)["recall"] == pytest.approx(0.3)


def test_a_chunk_hits_by_half_of_the_gold_or_of_itself() -> None:
    assert score(QUESTION, [chunk(0, 150)], 1, RULERS)["hit@1"] == 1  # half of the gold
    assert score(QUESTION, [chunk(180, 220)], 1, RULERS)["hit@1"] == 1  # half of itself
    assert score(QUESTION, [chunk(180, 260)], 1, RULERS)["hit@1"] == 0
    assert score(QUESTION, [chunk(100, 200, "e")], 99, RULERS)["hit@10"] == 0


def test_nothing_found_is_zero() -> None:
    assert set(score(QUESTION, [], 100, RULERS).values()) == {0}


def test_an_equal_k_favours_long_chunks_and_an_equal_budget_does_not() -> None:
    long, short = [chunk(0, 1000)], [chunk(100, 200)]
    assert score(QUESTION, long, 10, RULERS)["hit@1"] == score(QUESTION, short, 10, RULERS)["hit@1"] == 1
    assert score(QUESTION, long, 10, RULERS)["recall"] == 0 < score(QUESTION, short, 10, RULERS)["recall"] == 1


def test_unions_count_each_character_once() -> None:
    assert covered([("d", 0, 10), ("d", 5, 20), ("e", 0, 5), ("d", 20, 25)]) == 30
    assert overlap([("d", 0, 10)], [("d", 5, 7), ("d", 6, 30), ("e", 0, 10)]) == 5
