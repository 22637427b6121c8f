"""A temporary folder ends with its block, or with the next one after its process was killed."""

import multiprocessing
import signal
import tempfile
from pathlib import Path

import pytest

from slipway.system.temporary import remove_abandoned, temporary_folder

PREFIX = "slipway-test"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def hold_until_killed(ready):
    with temporary_folder(PREFIX) as folder:
        (folder / "config.json").write_text("{}")
        ready.send(str(folder))
        signal.pause()


@pytest.fixture
def other():
    """Another process inside the block, and its folder."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=hold_until_killed, args=(sender,))
    process.start()
    assert receiver.poll(60)
    yield process, Path(receiver.recv())
    process.kill()
    process.join()


def test_it_is_empty_and_ends_with_the_block_and_its_error(root):
    with pytest.raises(ValueError, match="in the block"), temporary_folder(PREFIX) as folder:
        assert list(folder.iterdir()) == []
        (folder / "deep").mkdir()
        raise ValueError("in the block")
    assert list(root.iterdir()) == []


def test_two_at_once_are_two_and_neither_removes_the_other(other):
    with temporary_folder(PREFIX) as mine:
        assert other[1].exists() and mine != other[1]
        assert remove_abandoned(PREFIX) == 0 and mine.exists() and (other[1] / "config.json").exists()


def test_what_a_killed_process_left_is_removed_by_the_next(other, root):
    process, folder = other
    process.kill()
    process.join()
    assert folder.exists()
    with temporary_folder(PREFIX) as mine:
        assert [path.name for path in root.iterdir()] == [mine.parent.name]
    assert list(root.iterdir()) == []


def test_one_killed_before_its_lock_is_removed_and_strangers_are_not(root):
    (root / f"{PREFIX}-empty").mkdir()
    (root / f"{PREFIX}-stranger").mkdir()
    (root / f"{PREFIX}-stranger" / "notes").write_text("not ours")
    (root / f"{PREFIX}-link").symlink_to(root / f"{PREFIX}-stranger")
    (root / "another").mkdir()
    assert remove_abandoned(PREFIX) == 1
    assert sorted(path.name for path in root.iterdir()) == ["another", f"{PREFIX}-link", f"{PREFIX}-stranger"]
