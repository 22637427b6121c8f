"""A target's folders: names that come from elsewhere lead nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.paths import TargetPaths
from slipway.errors import StateError


def test_a_root_behind_a_symlink_is_the_same_target(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    assert TargetPaths(tmp_path / "link").root == TargetPaths(tmp_path / "target").root


@pytest.mark.parametrize("name", ["", "..", "../0001-aaaaaaaa", "0001-aaaaaaaa/..", "0001-AAAAAAAA", "0001-aaaaaaaa\n"])
def test_a_name_that_is_no_release_s_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StateError, match="a name like"):
        TargetPaths(tmp_path).release(name)


def test_a_digest_that_is_none_is_refused(tmp_path: Path) -> None:
    paths = TargetPaths(tmp_path)
    assert paths.layer("0" * 64) == tmp_path.resolve() / "layers" / ("0" * 64)
    for digest in ("../x", "0" * 63, "G" * 64):
        with pytest.raises(StateError, match="64 hex digits"):
            paths.layer(digest)
