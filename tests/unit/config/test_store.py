"""The store section: folders of this project and of this user."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.store import StoreConfig


def test_artifacts_lie_in_the_project_and_downloads_with_the_user():
    assert StoreConfig().root == ".slipway"
    assert StoreConfig().cache.startswith("~/")


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValidationError, match="taken is a file"):
        StoreConfig(root=str(tmp_path / "taken" / "store"))
