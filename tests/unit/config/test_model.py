"""The model section: a directory model names its directory; sizes are positive."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.model import ModelConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key


def test_a_directory_model_names_its_directory():
    with pytest.raises(ValidationError, match=r"model\.directory is empty"):
        ModelConfig(source="directory")
    assert ModelConfig(source="directory", directory="/models/mine").directory == "/models/mine"


def test_the_embedded_model_is_pinned():
    assert len(bytes.fromhex(ModelConfig().sha256)) == 32
    assert ModelConfig().hidden % ModelConfig().heads == 0


BOUNDS: list[Bound] = [
    ("name", "x" * 101, "x" * 100),
    ("source", "hub", "embedded"),
    ("assume", "gpt2", "llama"),
    ("parameters_b", 0, 0.001),
    ("active_b", 0, 0.001),
    ("layers", 0, 1),
    ("hidden", 0, 1),
    ("intermediate", 0, 1),
    ("heads", 0, 1),
    ("kv_heads", 0, 1),
    ("head_dim", 0, 1),
    ("vocabulary", 0, 1),
    ("experts", -1, 0),
    ("experts_per_token", -1, 0),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_by_its_key_and_holds_inside(bound):
    assert_bound("model", bound)


def test_every_bound_of_the_section_is_tried():
    assert_every_bound_is_listed(ModelConfig, BOUNDS)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("layer", "layers"),
        ("directry", "directory"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(key, near):
    assert_near_key("model", key, near)
