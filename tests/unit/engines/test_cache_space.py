"""Room for caches: least recently used first, never what serves or is to be rolled back to, never a stranger's."""

from __future__ import annotations

import os
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from slipway.engines.cache_space import IN_USE, file_system, make_room, start_cache, start_caches
from slipway.engines.serving import RECORD
from slipway.errors import ConfigError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Caches of three starts, 100 bytes each: `old`, `mid` and `new` by their last use."""
    root = tmp_path / "caches"
    for age, name in enumerate(("old", "mid", "new")):
        work = tmp_path / name
        work.mkdir()
        cache = start_cache(root, work, 10**6)
        (cache / "kernel").write_bytes(bytes(100))
        os.utime(cache.parent / "start.json", ns=(age, age))
    return root


def works(root: Path) -> set[str]:
    return {start.work.name for start in start_caches(root)}


def size(root: Path) -> int:
    return sum(start.nbytes for start in start_caches(root))


def test_the_record_of_a_server_is_what_serving_writes() -> None:
    assert IN_USE == RECORD


def test_the_least_recently_used_goes_first(root: Path) -> None:
    assert [start.work.name for start in make_room(root, size(root) - 1)] == ["old"]
    assert works(root) == {"mid", "new"}
    assert make_room(root, size(root)) == []


def test_what_serves_and_its_rollback_stay_whatever_the_limit(root: Path, tmp_path: Path) -> None:
    (tmp_path / "old" / IN_USE).write_text("{}")
    assert [start.work.name for start in make_room(root, 0, keep=[tmp_path / "mid"])] == ["new"]
    assert works(root) == {"old", "mid"}


def test_a_start_begins_with_an_empty_folder_of_its_own(root: Path, tmp_path: Path) -> None:
    again = start_cache(root, tmp_path / "old", 10**6)
    assert list(again.iterdir()) == []
    assert works(root) == {"old", "mid", "new"}


def test_a_new_start_makes_room(root: Path, tmp_path: Path) -> None:
    start_cache(root, tmp_path / "another", size(root) - 1)
    assert works(root) == {"mid", "new", "another"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"work": 3}'])
def test_what_slipway_did_not_make_stays(root: Path, text: str) -> None:
    (root / "stranger").mkdir()
    (root / "stranger/start.json").write_text(text)
    (root / "file").touch()
    make_room(root, 0)
    assert (root / "file").exists()
    assert text == '{"work": 3}' or (root / "stranger").exists()


def test_caches_on_a_network_file_system_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = namedtuple("mount", "mountpoint fstype")
    partitions = [mount("/", "ext4"), mount(str(tmp_path / "share"), "nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: partitions)
    (tmp_path / "share").mkdir()
    assert file_system(tmp_path / "other/below") == "ext4"
    with pytest.raises(ConfigError, match="nfs4"):
        start_cache(tmp_path / "share/caches", tmp_path, 1)
