"""Files written whole or not at all, their digests, and a disk that is full."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from slipway.agent import files
from slipway.errors import ResourceError


def test_one_spelling_per_value() -> None:
    assert files.canonical({"b": 1, "a": [1.5, None, "ü"]}) == '{"a":[1.5,null,"ü"],"b":1}'.encode()
    assert files.canonical({"a": 1, "b": 2}) == files.canonical({"b": 2, "a": 1})


def test_digests_of_a_known_value(tmp_path: Path) -> None:
    """The example of FIPS 180-2."""
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "f").write_bytes(b"abc")
    assert files.sha256_bytes(b"abc") == files.sha256_file(tmp_path / "f") == known


def test_a_write_that_is_killed_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state.json"
    files.write_atomic(file, "old")
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        files.write_atomic(file, "new")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if p != file] == [f".state.json.{pid}"]


def test_remove_takes_whatever_has_the_name_and_nothing_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "f").touch()
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("link", "folder", "file", "absent"):
        files.remove(tmp_path / name)
    assert [p.name for p in tmp_path.rglob("*")] == ["kept", "f"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_where_and_what_is_left(tmp_path: Path, code: int) -> None:
    where = tmp_path / "not" / "made" / "yet"
    with (
        pytest.raises(ResourceError, match=rf"disk: full while writing {where}, \d+\.\d\d GB free"),
        files.disk_full_is_named(where),
    ):
        raise OSError(code, "no room")


def test_another_error_passes(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), files.disk_full_is_named(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    with (
        pytest.raises(ResourceError, match="full while writing"),
        files.disk_full_is_named(tmp_path),
        Path("/dev/full").open("w") as file,
    ):
        file.write("x")
        file.flush()


def test_what_the_system_refuses_is_an_error_with_the_file(tmp_path: Path) -> None:
    refused = files.as_resource_error(PermissionError(errno.EACCES, "Permission denied", "/x/y"))
    assert (refused.thing, refused.value) == ("file /x/y", "Permission denied")
    assert files.as_resource_error(OSError(errno.ENOSPC, "full", "/x")).thing == "disk"


def test_flushing_reads_every_file_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").touch()
    flushed: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(str(Path(f"/proc/self/fd/{fd}").readlink())))
    files.fsync_tree(tmp_path)
    assert sorted(flushed) == [str(tmp_path), *(str(tmp_path / p) for p in ("a", "a/b", "a/b/f"))]
    flushed.clear()
    files.fsync_directory(tmp_path / "a")
    assert flushed == [str(tmp_path / "a")]
