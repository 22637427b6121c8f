"""The data card: figures by hand, and no path or time in it."""

from __future__ import annotations

import numpy as np
import pytest

from slipway.data.card import card, quantile, summarise
from slipway.data.funnel import Step
from slipway.data.split import Splits
from tests.support.tables import chat, table

ROWS = [chat("u", "a|b", label=label, template=f"t{t}") for label, t in (("On", 1), ("On", 1), ("Off", 2), ("On", 3))]
LENGTHS = {"train": np.array([5, 7, 9]), "val": np.zeros(0, np.int64), "test": np.array([20])}
FUNNEL = {"steps": [Step("near duplicate", 3, 4, "data.near_duplicate", ["line 1: a | b"]).to_json()], "shares": []}


def splits() -> Splits:
    return Splits(table(ROWS), np.array([0, 1, 2]), np.zeros(0, np.int64), np.array([3]))


@pytest.mark.parametrize(("q", "value"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.75, 3), (1.0, 4)])
def test_a_quantile_is_the_least_value_that_reaches_the_share(q: float, value: int) -> None:
    assert quantile([1, 2, 3, 4], q) == value


def test_figures_of_splits() -> None:
    figures = summarise(splits(), LENGTHS)
    expected = {"labels": 2, "train_rows": 3, "train_templates": 2, "train_tokens": 21, "val_rows": 0}
    assert expected.items() <= figures.items()
    assert (figures["tokens_p50"], figures["tokens_max"]) == (7, 20)


def test_the_card_shows_splits_labels_losses_and_an_example_and_is_the_same_each_time() -> None:
    text = card(splits(), LENGTHS, FUNNEL, {"licence": "CC0-1.0"})
    assert "| train | 3 | 2 | 7 | 9 | 9 |" in text
    assert "| On | 2 | 0 | 1 |" in text
    assert r"| near duplicate | 3 | 4 | data.near_duplicate | line 1: a \| b |" in text
    assert r"- assistant: `a\|b`" in text
    assert text == card(splits(), LENGTHS, FUNNEL, {"licence": "CC0-1.0"})


def test_very_many_labels_are_counted_not_listed() -> None:
    rows = [chat(f"u{i}", label=f"l{i}", template=f"t{i}") for i in range(300)]
    many = Splits(table(rows), np.arange(299), np.zeros(0, np.int64), np.array([299]))
    lengths = {"train": np.ones(299, np.int64), "val": np.zeros(0, np.int64), "test": np.array([1])}
    assert "| and 100 more |" in card(many, lengths, FUNNEL, {})
