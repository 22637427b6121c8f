"""Near pairs: what comparing all pairs finds, by prefixes exactly and by MinHash nearly so."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from slipway.data import near_duplicates
from slipway.data.near_duplicates import Pairs, bands, components, greedy, near_pairs
from slipway.data.row_table import RowTable
from slipway.data.shingles import shingles
from tests.support.tables import chat, every, table

INSTRUCTION = "You are given a sentence and must say whether its tone is friendly or not, in one word"


def random_table(rows: int) -> tuple[RowTable, list[frozenset[tuple[str, str]]]]:
    rng = random.Random(5)
    texts = [" ".join(rng.choices("abcdefgh", k=rng.randint(1, 7))) for _ in range(rows)]
    sets = [frozenset(pairwise(["", *text.split(), ""])) for text in texts]
    return table([chat(text, rng.choice("xy")) for text in texts]), sets


def pairs_of(made: RowTable, threshold: float, classes: np.ndarray, **more: np.ndarray) -> set[tuple[int, int]]:
    pairs = near_pairs(shingles(made, every(made)), threshold, classes, **more)
    assert (pairs.first < pairs.second).all()
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_exactly_the_pairs_that_comparing_all_of_them_finds(threshold: float) -> None:
    made, sets = random_table(200)
    expected = {
        (i, j)
        for j in range(200)
        for i in range(j)
        if made.answer[i] == made.answer[j] and len(sets[i] & sets[j]) >= threshold * len(sets[i] | sets[j]) - 1e-9
    }
    assert pairs_of(made, threshold, made.answer) == expected
    sides = np.arange(200) % 2
    across = {(i, j) for i, j in expected if sides[i] != sides[j]}
    assert pairs_of(made, threshold, made.answer, sides=sides) == across
    assert expected


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_minhash_finds_no_wrong_pair_and_nearly_all(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = random_table(150)
    exact = pairs_of(made, threshold, made.answer)
    monkeypatch.setattr(near_duplicates, "MOST_CANDIDATES", 0)
    assert not near_pairs(shingles(made, every(made)), threshold, made.answer).exact
    by_minhash = pairs_of(made, threshold, made.answer)
    assert by_minhash <= exact
    assert len(by_minhash) >= 0.98 * len(exact)
    sides = np.arange(150) % 2
    assert pairs_of(made, threshold, made.answer, sides=sides) <= exact


def test_a_long_shared_instruction_does_not_make_rows_alike() -> None:
    inputs = [f"thing{i} went well today" for i in range(40)]
    made = table([chat(f"{INSTRUCTION}: {text}", "yes") for text in inputs])
    assert pairs_of(made, 0.7, made.answer) == set()
    with_twin = table([chat(f"{INSTRUCTION}: {text}", "yes") for text in [*inputs, "thing3 went well, today!"]])
    assert pairs_of(with_twin, 0.7, with_twin.answer) == {(3, 40)}


def test_near_copies_in_scripts_without_spaces_are_near_and_others_are_not() -> None:
    made = table([chat("请把客厅里的大灯打开好吗"), chat("请把客厅里的大灯打开好吗。"), chat("今天天气怎么样"),
                  chat("ช่วยเปิดไฟในห้องนั่งเล่นหน่อย"), chat("ช่วยเปิดไฟในห้องนั่งเล่นหน่อยนะ")])  # fmt: skip
    assert pairs_of(made, 0.7, np.zeros(5, np.uint64)) == {(0, 1), (3, 4)}


def test_each_band_reaches_its_probability() -> None:
    for threshold in (0.05, 0.3, 0.7, 0.95, 1.0):
        count, minima = bands(threshold)
        assert 1 - (1 - threshold**minima) ** count >= 0.999
    assert bands(0.7)[1] > 1


def test_a_row_goes_for_an_earlier_one_that_stays() -> None:
    chain = Pairs(np.array([0, 1, 2]), np.array([1, 2, 3]))
    stays, twin = greedy(chain, 5)
    assert stays.tolist() == [True, False, True, False, True]
    assert twin.tolist() == [-1, 0, -1, 2, -1]


def test_chains_are_components() -> None:
    groups = components(Pairs(np.array([0, 1]), np.array([1, 4])), 5)
    assert groups[0] == groups[1] == groups[4]
    assert len(set(groups.tolist())) == 3


def test_one_row_has_no_pairs() -> None:
    made = table([chat("a")])
    assert len(near_pairs(shingles(made, every(made)), 0.7, made.answer)) == 0
