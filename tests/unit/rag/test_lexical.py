"""BM25: ranks as its formula says, ties by row, the same after reopening."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slipway.errors import StateError
from slipway.rag.lexical import LexicalIndex, top, words

TEXTS = ["sort a list", "sort sort names of a hash", "open files", "open files"]


def test_words_are_lower_case_without_stop_words() -> None:
    assert words("How to Sort_it, the list!") == ["how", "sort_it", "list"]


def test_scores_are_those_of_the_formula() -> None:
    lengths = [len(words(text)) for text in TEXTS]
    mean = sum(lengths) / len(lengths)
    idf = math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    expected = {
        row: idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * lengths[row] / mean)) for row, count in ((0, 1), (1, 2))
    }
    got = dict(LexicalIndex.build(TEXTS).search("Sort?", 10))
    assert got.keys() == expected.keys()
    assert all(got[row] == pytest.approx(expected[row], rel=1e-5) for row in got)


def test_ties_come_by_row_and_unknown_words_find_nothing() -> None:
    index = LexicalIndex.build(TEXTS)
    assert [row for row, _ in index.search("files", 1)] == [2]
    assert index.search("zebra the", 3) == []


def test_a_reopened_index_ranks_alike(tmp_path: Path) -> None:
    index = LexicalIndex.build(TEXTS)
    index.save(tmp_path)
    again = LexicalIndex.open(tmp_path, 4)
    assert again.search("sort files", 4) == index.search("sort files", 4)
    next(tmp_path.glob("*.npy")).unlink()
    with pytest.raises(StateError, match="BM25 index"):
        LexicalIndex.open(tmp_path, 4)


def test_top_keeps_the_first_of_many_equal_scores() -> None:
    assert [row for row, _ in top(np.ones(50), 3)] == [0, 1, 2]
    assert top(np.array([0.0, 2.0, 1.0]), 3, above=0.0) == [(1, 2.0), (2, 1.0)]


SAVED = """
import sys
from pathlib import Path
from slipway.rag.lexical import LexicalIndex
LexicalIndex.build([f"sort word{n} and name{n % 7} of file{n % 3}" for n in range(40)]).save(Path(sys.argv[1]))
"""


def test_its_bytes_do_not_depend_on_the_hashes_of_the_process(tmp_path: Path) -> None:
    saved = []
    for seed in ("1", "2"):
        command = [sys.executable, "-c", SAVED, str(tmp_path / seed)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        saved.append({path.name: path.read_bytes() for path in sorted((tmp_path / seed).iterdir())})
    assert saved[0] == saved[1] and "vocab.index.json" in saved[0]
