"""Folders of `slipway serve`: who uses one, which goes first, and servers that a killed command left."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.engines.served import HOME, Served, make_room, mark, room, served_folders
from slipway.runners.base import Job
from slipway.runners.local import LocalRunner
from slipway.system.locks import locked

NAMES = {name: letter * 12 for name, letter in (("old", "0"), ("mid", "1"), ("new", "2"))}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three folders of 1,000 bytes, `old`, `mid` and `new` by when they were last asked for."""
    root = tmp_path / "serve"
    for age, (name, home) in enumerate(NAMES.items()):
        mark(root / home, tmp_path / name)
        (root / home / "bundle").write_bytes(bytes(1000))
        os.utime(root / home / "served.json", (age, age))
    return root


def homes(root: Path) -> dict[str, Served]:
    return {Path(one.directory).name: one for one in served_folders(root)}


def removed(root: Path, limit: int, keep: str = "new") -> list[str]:
    with room(root):
        return [Path(one.directory).name for one in make_room(root, limit, root / NAMES[keep])]


def size(root: Path) -> int:
    return sum(one.nbytes for one in served_folders(root))


def test_the_longest_unasked_goes_first_and_no_more_than_must(root: Path) -> None:
    assert removed(root, size(root)) == []
    assert removed(root, size(root) - 1) == ["old"]
    assert list(homes(root)) == ["mid", "new"]


def test_what_is_asked_for_again_is_the_newest(root: Path, tmp_path: Path) -> None:
    mark(root / NAMES["old"], tmp_path / "old")
    assert removed(root, size(root) - 1) == ["mid"]


@pytest.mark.parametrize("lock", [".lock", "server-3/.lock"])
def test_what_is_made_or_serves_stays_whatever_the_limit_and_so_does_what_is_asked_for(root: Path, lock: str) -> None:
    with locked(root / NAMES["old"] / lock, 0.0, "serve"):
        assert homes(root)["old"].in_use
        assert removed(root, 0) == ["mid"]
    assert removed(root, 0) == ["old"]
    assert list(homes(root)) == ["new"]


@pytest.fixture
def left(root: Path) -> Iterator[tuple[LocalRunner, Job]]:
    """A server that runs, recorded in a folder that no command holds."""
    work = root / NAMES["old"] / "server-0"
    work.mkdir()
    runner = LocalRunner()
    job = Job("serve-1", (sys.executable, "-c", "import time; time.sleep(600)"), work)
    runner.submit(job)
    (work / "serving.json").write_text(json.dumps({"name": "serve-1", "port": 4711, "service": "x"}))
    yield runner, job
    runner.cancel(job)


def test_a_server_that_a_killed_command_left_is_seen_and_its_folder_stays(
    root: Path, left: tuple[LocalRunner, Job]
) -> None:
    assert (homes(root)["old"].ports, homes(root)["old"].left) == ((), (4711,))
    assert removed(root, 0) == ["mid"]
    runner, job = left
    runner.cancel(job)
    deadline = time.monotonic() + 120
    while homes(root)["old"].in_use and time.monotonic() < deadline:
        time.sleep(0.05)
    assert removed(root, 0) == ["old"]


def test_a_server_of_another_machine_may_live(root: Path) -> None:
    work = root / NAMES["mid"] / "server-0"
    work.mkdir()
    (work / "serving.json").write_text(json.dumps({"name": "serve-2", "port": 20001, "service": "x"}))
    assert homes(root)["mid"].left == (20001,)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"directory": 3}'])
def test_what_is_damaged_is_still_found_and_what_is_not_ours_never(root: Path, text: str) -> None:
    (root / NAMES["old"] / "served.json").write_text(text)
    (root / NAMES["mid"] / "server-0").mkdir()
    (root / NAMES["mid"] / "server-0" / "serving.json").write_text(text)
    (root / "stranger").mkdir()
    (root / ("f" * 12)).symlink_to(root / "stranger")
    assert [one.home.name for one in served_folders(root)] == list(NAMES.values())
    assert not any(one.in_use for one in served_folders(root))
    assert all(HOME.fullmatch(name) for name in NAMES.values())
    removed(root, 0)
    assert sorted(path.name for path in root.iterdir()) == [NAMES["new"], "f" * 12, "room.lock", "stranger"]
