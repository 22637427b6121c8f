"""Layers as tars: read by tarfile as we mean them, the same bytes always, and nothing but our own form taken."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from slipway.agent.bundle.layer_tar import (
    ALIGNED_FROM,
    ALIGNMENT,
    TAIL,
    Member,
    digest_of,
    head_of,
    layer_size,
    members_of,
)
from slipway.agent.bundle.layer_tar import padding as zeros
from slipway.errors import BundleError

LONG = "models/engine/" + "/".join("x" * 60 for _ in range(4)) + "/Größe"
MEMBERS = [
    Member("models/a", 5),
    Member("models/engine/server", 513, 0o755, 1_700_000_000_123_456_789),
    Member("models/engine/weights", ALIGNED_FROM + 1),
    Member(LONG, 0, 0o600, 3 * 10**9),
]


def layer_of(members: list[Member]) -> bytes:
    parts = [head_of(one) + b"w" * one.size + zeros(one.size) for one in sorted(members)]
    return b"".join(parts) + bytes(TAIL)


def test_tarfile_reads_what_we_mean() -> None:
    data = layer_of(MEMBERS)
    assert len(data) == layer_size(MEMBERS)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        seen = {one.name: (one.size, one.mode, one.uid, one.gid, one.uname, one.isreg()) for one in tar}
        times = {one.name: float(one.mtime) for one in tar.getmembers()}
        read = {name: tar.extractfile(name).read() for name in seen}  # type: ignore[union-attr]
    assert seen == {one.name: (one.size, one.mode, 0, 0, "", True) for one in MEMBERS}
    assert times == {one.name: one.mtime_ns / 1e9 for one in MEMBERS}
    assert read == {one.name: b"w" * one.size for one in MEMBERS}


def test_a_large_content_begins_where_file_systems_can_cut() -> None:
    assert len(head_of(Member("models/a", ALIGNED_FROM))) == ALIGNMENT
    for extra in range(0, 700, 7):  # whatever the other records need
        name = "models/" + "/".join(["é" * 100] * (extra // 200 + 1)) + "y" * (extra % 50)
        assert len(head_of(Member(name, ALIGNED_FROM, mtime_ns=1))) % ALIGNMENT == 0


def test_sizes_of_8_gib_and_more_are_pax_records() -> None:
    head = head_of(Member("models/a", 2**40 + 7))
    assert tarfile.TarInfo.frombuf(head[-512:], "utf-8", "strict").size == 0
    assert b"size=1099511627783\n" in head


def test_members_come_back_with_the_places_of_their_contents(tmp_path: Path) -> None:
    data = layer_of(MEMBERS)
    members = members_of(io.BytesIO(data))
    assert [member for member, _ in members] == sorted(MEMBERS)
    assert all(data[at : at + one.size] == b"w" * one.size for one, at in members)
    files = []
    for number, one in enumerate(MEMBERS):
        (tmp_path / str(number)).write_bytes(b"w" * one.size)
        files.append((one, tmp_path / str(number)))
    assert digest_of(files) == hashlib.sha256(data).hexdigest()
    (tmp_path / "0").write_bytes(b"w" * 6)
    with pytest.raises(BundleError, match="6 bytes; expected 5"):
        digest_of(files)


def written_by_tarfile(**attributes: object) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo("models/a")
        for name, value in attributes.items():
            setattr(info, name, value)
        tar.addfile(info, io.BytesIO(b"x" * info.size))
    return file.getvalue()


ONE = layer_of([Member("models/a", 3)])


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (written_by_tarfile(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "holds something else"),
        (written_by_tarfile(type=tarfile.DIRTYPE), "no plain path"),
        (written_by_tarfile(size=3, uid=7), "holds something else"),
        (written_by_tarfile(size=3, name="../a"), "no plain path"),
        (ONE + b"x", "behind its end"),
        (ONE[:-600], "ends early"),
        (ONE[:700], "ends within"),
        (ONE[:-TAIL] + ONE, "after models/a"),
        (bytes(TAIL), "no file"),
        (b"\xff" * 2048, "cannot be read"),
        (b"", "ends early"),
    ],
)
def test_other_tars_are_refused(data: bytes, value: str) -> None:
    with pytest.raises(BundleError, match=value):
        members_of(io.BytesIO(data))


@pytest.mark.parametrize(
    "name",
    ["a", "/models/a", "models/../a", "models//a", "models/", "models/.git/hooks/x", "models/.GitIgnore",
     "models/a\nb", "models/a\\b", "models/" + "x" * 256, "models/" + "x/" * 600 + "x"],
)  # fmt: skip
def test_names_that_a_bundle_must_not_hold(name: str) -> None:
    with pytest.raises(BundleError):
        head_of(Member(name, 0))
