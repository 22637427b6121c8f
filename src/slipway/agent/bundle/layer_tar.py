"""A layer of a bundle: an uncompressed tar whose every byte follows from its members and their contents.

    layer = for each member, by name:  head | content | zeros to a multiple of 512        then 1024 zeros
    head  = [pax header, pax records]  ustar header of name, size, mode and mtime; owner 0:0, no names

Whoever has the files has the layer, so its digest can be checked after the tar is gone. The heads are written here and
not by `tarfile`, whose bytes differ between versions of Python. Records are those of POSIX.1-2001 (pax): `path` for a
name of more than 100 bytes or with other letters than ASCII, `size` from 8 GiB on, `mtime` for fractions of a second. A
head before a large content is padded with a `comment` to 4096 bytes: then a file system can cut it off, or share the
content's blocks, without copying (`agent/bundle/layers.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slipway.errors import BundleError

BLOCK, TAIL = 512, 1024
ALIGNED_FROM = 1 << 20  # bytes of a content from which on its head is padded
ALIGNMENT = 4096  # blocks of ext4, XFS and btrfs
CHUNK = 4 << 20
ROOT = "models/"  # where KServe and image volumes look for a model
_LONGEST_NAME, _LONGEST_PART = 1024, 255  # bytes
_OCTAL_LIMIT = 8**11  # of a field of 12
_LARGEST_HEAD = 4 * ALIGNMENT
_NEXT = "pack the release again with this version of Slipway"


@dataclass(frozen=True, order=True)
class Member:
    """A file of a layer. `name`: below the image's root, `models/...`; `size` in bytes; `mode`: permission bits;
    `mtime_ns`: since 1970."""

    name: str
    size: int
    mode: int = 0o644
    mtime_ns: int = 0


def check_name(name: str) -> None:
    """Raise BundleError unless `name` is a path below `models/` that every file system keeps as it is, and no part of a
    git repository: signatures of models commonly leave out `.git*`, so nothing may hide there."""
    parts = name.split("/")
    problem = None
    if not name.startswith(ROOT) or any(part in ("", ".", "..") for part in parts):
        problem = f"no plain path below {ROOT}"
    elif any(part.casefold().startswith(".git") for part in parts):
        problem = "a path of git, which signatures leave out"
    elif not name.isprintable() or "\\" in name:
        problem = "signs that not every file system keeps"
    elif len(name.encode()) > _LONGEST_NAME or any(len(part.encode()) > _LONGEST_PART for part in parts):
        problem = "longer than file systems allow"
    if problem:
        raise BundleError(f"file {name!r:.300} of a bundle", problem, "a file of a model or an engine", "remove it")


def head_of(member: Member) -> bytes:
    """The bytes before a member's content. Raises BundleError for a name or mode that no bundle has."""
    check_name(member.name)
    if not 0 <= member.mode <= 0o777 or member.mtime_ns < 0:
        value = f"mode {member.mode:o}, mtime {member.mtime_ns}"
        raise BundleError(f"file {member.name} of a bundle", value, "permission bits and a time after 1970", _NEXT)
    records = _records(member)
    if member.size >= ALIGNED_FROM:
        records += _filler(len(records))
    seconds = min(member.mtime_ns // 10**9, _OCTAL_LIMIT - 1)
    size = member.size if member.size < _OCTAL_LIMIT else 0
    name = member.name.encode("ascii", "replace")[:100]
    extended = _ustar(b"././@PaxHeader", len(records), 0o644, 0, b"x") + _padded(records) if records else b""
    return extended + _ustar(name, size, member.mode, seconds, b"0")


def padding(size: int) -> bytes:
    """Zeros behind a content of `size` bytes."""
    return bytes(-size % BLOCK)


def layer_size(members: Iterable[Member]) -> int:
    """Bytes of the layer of these members."""
    return sum(len(head_of(one)) + one.size + len(padding(one.size)) for one in members) + TAIL


def digest_of(members: Iterable[tuple[Member, Path]]) -> str:
    """sha256 (hex) of the layer of these members, each with the file that holds its content; they are sorted first.

    Raises BundleError for a file that is shorter or longer than its member says, OSError when one cannot be read."""
    digest = hashlib.sha256()
    for member, file in sorted(members):
        digest.update(head_of(member))
        nbytes = 0
        with file.open("rb") as content:
            for chunk in chunks(content):
                digest.update(chunk)
                nbytes += len(chunk)
        if nbytes != member.size:
            raise BundleError(f"file {file}", f"{nbytes} bytes", f"{member.size}", "copy the bundle again")
        digest.update(padding(member.size))
    digest.update(bytes(TAIL))
    return digest.hexdigest()


def chunks(file: IO[bytes], size: int | None = None) -> Iterator[bytes]:
    """The next `size` bytes of a file (null: all that follow) in pieces of at most 4 MiB; ends early at its end."""
    left = size
    while left is None or left > 0:
        chunk = file.read(CHUNK if left is None else min(CHUNK, left))
        if not chunk:
            return
        left = None if left is None else left - len(chunk)
        yield chunk


def members_of(layer: IO[bytes]) -> list[tuple[Member, int]]:
    """Members of a tar and where their contents begin. The file can be sought in.

    Raises BundleError for a tar that is not, byte for byte between contents, what this module writes: a link, a folder,
    an owner, members out of order or twice, something behind the end.
    """
    members: list[tuple[Member, int]] = []
    while (member := _next(layer)) is not None:
        if members and member.name <= members[-1][0].name:
            raise _not_ours(layer, f"{member.name} after {members[-1][0].name}")
        members.append((member, layer.tell()))
        layer.seek(member.size, 1)
        if layer.read(len(padding(member.size))) != padding(member.size):
            raise _not_ours(layer, f"ends within {member.name}")
    if not members:
        raise _not_ours(layer, "no file")
    return members


def _next(layer: IO[bytes]) -> Member | None:
    """The member whose head comes next; None at the end."""
    start, block = layer.tell(), layer.read(BLOCK)
    if block == bytes(BLOCK):
        if layer.read(BLOCK + 1) != bytes(BLOCK):
            raise _not_ours(layer, "bytes behind its end, or a cut end")
        return None
    if len(block) < BLOCK:
        raise _not_ours(layer, "ends early")
    records: dict[str, str] = {}
    if block[156:157] == b"x":
        records = _parsed(layer.read(min(_octal(layer, block[124:136]), _LARGEST_HEAD)), layer)
        layer.seek(-(layer.tell() - start) % BLOCK, 1)
        block = layer.read(BLOCK)
    member = _member(layer, block, records)
    end = layer.tell()
    layer.seek(start)
    if layer.read(min(end - start, _LARGEST_HEAD)) != head_of(member):
        raise _not_ours(layer, f"the head of {member.name!r:.200} holds something else")
    return member


def _member(layer: IO[bytes], block: bytes, records: dict[str, str]) -> Member:
    try:
        name = records.get("path") or block[:100].rstrip(b"\0").decode("ascii")
        size = int(records["size"]) if "size" in records else _octal(layer, block[124:136])
        seconds, _, fraction = records.get("mtime", "").partition(".")
        nanoseconds = int(seconds) * 10**9 + int(fraction.ljust(9, "0")) if seconds else None
    except ValueError:
        raise _not_ours(layer, "a head that cannot be read") from None
    mtime = _octal(layer, block[136:148]) * 10**9 if nanoseconds is None else nanoseconds
    return Member(name, size, _octal(layer, block[100:108]), mtime)


def _octal(layer: IO[bytes], field: bytes) -> int:
    try:
        return int(field.rstrip(b"\0 ").decode("ascii"), 8)
    except ValueError:
        raise _not_ours(layer, "a head that cannot be read") from None


def _parsed(data: bytes, layer: IO[bytes]) -> dict[str, str]:
    """pax records: `LENGTH key=value\\n`, the length counting all of it."""
    records: dict[str, str] = {}
    while data:
        try:
            length, _, _ = data.partition(b" ")
            record, data = data[: int(length)], data[int(length) :]
            key, _, value = record[len(length) + 1 : -1].decode().partition("=")
        except ValueError:
            raise _not_ours(layer, "records that cannot be read") from None
        if not record:
            raise _not_ours(layer, "records that cannot be read")
        records[key] = value
    return records


def _records(member: Member) -> bytes:
    values = {}
    if len(member.name.encode()) > 100 or not member.name.isascii():
        values["path"] = member.name
    if member.size >= _OCTAL_LIMIT:
        values["size"] = str(member.size)
    if member.mtime_ns % 10**9 or member.mtime_ns >= _OCTAL_LIMIT * 10**9:
        values["mtime"] = f"{member.mtime_ns // 10**9}.{member.mtime_ns % 10**9:09d}"
    return b"".join(_record(key, value) for key, value in values.items())


def _record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def _filler(nbytes: int) -> bytes:
    """A comment that brings pax header, records (`nbytes` so far) and ustar header to a multiple of 4096 bytes."""
    room = -(nbytes + 2 * BLOCK) % ALIGNMENT
    room += ALIGNMENT if room < BLOCK else 0
    return f"{room} comment={' ' * (room - len(f'{room} comment=') - 1)}\n".encode()


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def _ustar(name: bytes, size: int, mode: int, seconds: int, kind: bytes) -> bytes:
    """A header of POSIX.1-1988: fixed fields, numbers in octal; the checksum is taken with blanks in its place."""
    fields = (
        name.ljust(100, b"\0"),
        f"{mode:07o}\0{0:07o}\0{0:07o}\0{size:011o}\0{seconds:011o}\0".encode(),
        b" " * 8 + kind + bytes(100) + b"ustar\x0000" + bytes(64) + b"%07o\0%07o\0" % (0, 0),
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _not_ours(layer: IO[bytes], value: str) -> BundleError:
    return BundleError(f"layer {getattr(layer, 'name', '')}", value, "a tar in the form that Slipway writes", _NEXT)
