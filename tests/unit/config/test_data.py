"""The data section: what a share, a cap and a list of labels may be, and which keys came later."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.data import DataConfig


@pytest.mark.parametrize(
    "keys",
    [
        {"test_fraction": 0},
        {"test_fraction": 0.5},
        {"val_fraction": -0.1},
        {"per_label": 0},
        {"near_duplicate": 0},
        {"near_duplicate": 1.01},
        {"max_tokens": 15},
        {"labels": []},
        {"name": "x" * 101},
        {"label_key": 5},
    ],
    ids=str,
)
def test_values_outside_their_range_are_refused(keys):
    with pytest.raises(ValidationError, match=next(iter(keys))):
        DataConfig(**keys)


def test_keys_that_came_later_are_in_the_key_only_when_they_are_set():
    assert DataConfig().key_document().keys().isdisjoint({"name", "labels"})
    assert DataConfig(labels=["On"]).key_document()["labels"] == ["On"]


def test_null_stands_for_free_text_and_for_no_validation():
    data = DataConfig(label_key=None, val_fraction=0)
    assert (data.label_key, data.val_fraction) == (None, 0)
