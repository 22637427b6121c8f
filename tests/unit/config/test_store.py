"""The store section: folders of this project and of this user."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.store import StoreConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key


def test_artifacts_lie_in_the_project_and_downloads_with_the_user():
    assert StoreConfig().root == ".slipway"
    assert StoreConfig().cache.startswith("~/")


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValidationError, match="taken is a file"):
        StoreConfig(root=str(tmp_path / "taken" / "store"))


BOUNDS: list[Bound] = [
    ("root", "", "store"),
    ("root", "a\0b", "store"),
    ("cache", " ", "downloads"),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_by_its_key_and_holds_inside(bound):
    assert_bound("store", bound)


def test_every_bound_of_the_section_is_tried():
    assert_every_bound_is_listed(StoreConfig, BOUNDS)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("roots", "root"),
        ("cach", "cache"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(key, near):
    assert_near_key("store", key, near)
