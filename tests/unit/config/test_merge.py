"""The merge section: a proof samples something, and a shard holds something."""

from __future__ import annotations

import pytest

from slipway.config.merge import MergeConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key


def test_the_checkpoint_is_virtual_unless_asked_otherwise():
    assert MergeConfig().materialize is False


BOUNDS: list[Bound] = [
    ("materialize", "maybe", True),
    ("max_shard_gb", 0, 0.001),
    ("proof_layers", 0, 1),
    ("proof_tokens", 0, 1),
    ("max_logit_error", 0, 0.001),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_by_its_key_and_holds_inside(bound):
    assert_bound("merge", bound)


def test_every_bound_of_the_section_is_tried():
    assert_every_bound_is_listed(MergeConfig, BOUNDS)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("proof_layer", "proof_layers"),
        ("materialise", "materialize"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(key, near):
    assert_near_key("merge", key, near)
