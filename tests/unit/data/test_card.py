"""The data card: figures by hand, and no path or time in it."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.data.card import card, quantile, summarise


def row(label: str, template: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a|b"}]
    return {"messages": messages, "label": label, "template": template}


SPLITS = {"train": [row("On", "t1"), row("On", "t1"), row("Off", "t2")], "val": [], "test": [row("On", "t3")]}
LENGTHS = {"train": [5, 7, 9], "val": [], "test": [20]}


@pytest.mark.parametrize(("q", "value"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.75, 3), (1.0, 4)])
def test_a_quantile_is_the_least_value_that_reaches_the_share(q: float, value: int) -> None:
    assert quantile([1, 2, 3, 4], q) == value


def test_figures_of_splits() -> None:
    figures = summarise(SPLITS, LENGTHS)
    assert (figures["labels"], figures["train_rows"], figures["train_templates"], figures["train_tokens"]) == (
        2,
        3,
        2,
        21,
    )
    assert (figures["val_rows"], figures["tokens_p50"], figures["tokens_max"]) == (0, 7, 20)


def test_the_card_shows_splits_labels_and_an_example_and_is_the_same_each_time() -> None:
    text = card(SPLITS, LENGTHS, {"near_duplicates": 3}, {"licence": "CC0-1.0"})
    assert "| train | 3 | 2 | 7 | 9 | 9 |" in text
    assert "| On | 2 | 0 | 1 |" in text
    assert "| near duplicates | 3 |" in text
    assert "- assistant: `a|b`" in text
    assert text == card(SPLITS, LENGTHS, {"near_duplicates": 3}, {"licence": "CC0-1.0"})
