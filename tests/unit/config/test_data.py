"""The data section: what a share, a cap and a list of labels may be, and which keys came later."""

from __future__ import annotations

import pytest

from slipway.config.data import DataConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key


def test_keys_that_came_later_are_in_the_key_only_when_they_are_set():
    assert DataConfig().key_document().keys().isdisjoint({"name", "labels", "format", "columns", "invalid", "draw"})
    assert DataConfig(labels=["On"]).key_document()["labels"] == ["On"]


def test_null_stands_for_free_text_and_for_no_validation():
    data = DataConfig(label_key=None, val_fraction=0)
    assert (data.label_key, data.val_fraction) == (None, 0)


BOUNDS: list[Bound] = [
    ("name", "x" * 101, "x" * 100),
    ("labels", [], ["On"]),
    ("format", "yaml", "sharegpt"),
    ("columns", {"promt": "question"}, {"prompt": "question"}),
    ("invalid", "skip", "drop"),
    ("test_fraction", 0, 0.01),
    ("test_fraction", 0.5, 0.49),
    ("draw", 0, 1),
    ("val_fraction", -0.01, 0),
    ("val_fraction", 0.5, 0.49),
    ("per_label", 0, 1),
    ("val_per_label", 0, 1),
    ("test_per_label", 0, 1),
    ("near_duplicate", 0, 0.01),
    ("near_duplicate", 1.01, 1),
    ("max_tokens", 15, 16),
    ("label_key", 5, "scene"),
    ("raw", "/", "rows.jsonl"),
    ("raw", " ", "rows.jsonl"),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_by_its_key_and_holds_inside(bound):
    assert_bound("data", bound)


def test_every_bound_of_the_section_is_tried():
    assert_every_bound_is_listed(DataConfig, BOUNDS)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("per_labl", "per_label"),
        ("label", "labels"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(key, near):
    assert_near_key("data", key, near)
