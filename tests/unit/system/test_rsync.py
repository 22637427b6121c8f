"""rsync between two folders of this machine; tests/lab copies over ssh and cuts the cable."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import ResourceError
from slipway.system.rsync import Progress, send, synchronize


def test_files_arrive_and_pieces_are_completed(tmp_path: Path) -> None:
    source, there = tmp_path / "source", tmp_path / "there"
    source.mkdir()
    there.mkdir()
    (source / "a").write_bytes(b"0123456789" * 1000)
    (source / "b b").write_bytes(b"b")
    (source / "not asked for").touch()
    (there / "a").write_bytes(b"0123456789" * 3)
    progress: list[Progress] = []
    copied = send(["a", "b b"], source, f"{there}/", [], total=10_001, on_progress=progress.append, limit_mb_s=100)
    assert sorted(path.name for path in there.iterdir()) == ["a", "b b"]
    assert (there / "a").read_bytes() == (source / "a").read_bytes()
    assert progress[-1].done == copied.done == 10_001
    assert send(["a", "b b"], source, f"{there}/", [], total=10_001).done == 0


def test_a_folder_is_made_equal_and_symlinks_stay_behind(tmp_path: Path) -> None:
    source, there = tmp_path / "source", tmp_path / "deep" / "there"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("one")
    (source / "link").symlink_to("/etc/hostname")
    synchronize(str(source), str(there), [])
    assert [str(p.relative_to(there)) for p in there.rglob("*")] == ["sub", "sub/file"]
    (source / "sub" / "file").write_text("two")
    synchronize(str(source), str(there), [])
    assert (there / "sub" / "file").read_text() == "two"


def test_what_rsync_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"copy to .*absent.*No such file.*goes on from there"):
        send(["absent"], tmp_path, f"{tmp_path}/there/", [], total=1)


def test_a_rate_is_of_the_bytes_that_went_over() -> None:
    assert str(Progress(500_000_000, 2_000_000_000, 2.0)) == "0.50 of 2.00 GB, 250.0 MB/s"
    assert str(Progress(500_000_000, 2_000_000_000, 2.0, before=400_000_000)).endswith("50.0 MB/s")
    assert str(Progress(0, 0, 0.0)) == "0.00 of 0.00 GB, 0.0 MB/s"
