"""The bytes of a layer out of files and pieces of files: its digest in one reading, its tar by copies in the kernel."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from errno import EINVAL, ENOSYS, EOPNOTSUPP, EXDEV
from pathlib import Path
from typing import BinaryIO

from slipway.agent.bundle.layer_tar import ROOT, TAIL, chunks, head_of, padding
from slipway.deployment.bundle.files import File
from slipway.deployment.bundle.layer_cuts import Content, Span
from slipway.errors import BundleError

_NO_COPY = (EXDEV, EINVAL, ENOSYS, EOPNOTSUPP)  # of a file system, a kernel, or a pair of them that cannot do it


def layer_digest(files: list[File]) -> tuple[str, dict[str, str]]:
    """sha256 of a layer, and of each of its files by its path in the tree; one reading for both."""
    layer, digests = hashlib.sha256(), {}
    for file in files:
        layer.update(head_of(file.member))
        content = hashlib.sha256()
        for piece in _pieces(file.content):
            layer.update(piece)
            content.update(piece)
        layer.update(padding(file.member.size))
        digests[file.member.name.removeprefix(ROOT)] = content.hexdigest()
    layer.update(bytes(TAIL))
    return layer.hexdigest(), digests


def source_identities(files: list[File]) -> dict[Path, tuple[int, int]]:
    """Size and mtime (ns) of every file that contents are taken from: equal before and after, nobody wrote to them."""
    sources = {part.file for file in files for part in file.content if isinstance(part, Span)}
    statuses = {source: source.stat() for source in sources}
    return {source: (status.st_size, status.st_mtime_ns) for source, status in statuses.items()}


def _pieces(content: Content) -> Iterator[bytes]:
    for part in content:
        if isinstance(part, bytes):
            yield part
            continue
        nbytes = 0
        with part.file.open("rb") as source:
            source.seek(part.start)
            for piece in chunks(source, part.size):
                nbytes += len(piece)
                yield piece
        if nbytes != part.size:
            raise changed(part.file)


def write_layer(files: list[File], target: BinaryIO) -> None:
    """Write a layer. Raises BundleError for a source that has become shorter."""
    for file in files:
        write_bytes(target, head_of(file.member))
        for part in file.content:
            if isinstance(part, bytes):
                write_bytes(target, part)
            else:
                with part.file.open("rb", buffering=0) as source:
                    _copy(source, part.start, part.size, target)
        write_bytes(target, padding(file.member.size))
    write_bytes(target, bytes(TAIL))


def _copy(source: BinaryIO, start: int, size: int, target: BinaryIO) -> None:
    """Bytes from file to file inside the kernel; through this process where it does not do that."""
    copy_file_range = getattr(os, "copy_file_range", _not_there)  # Linux
    while size:
        try:
            copied = copy_file_range(source.fileno(), target.fileno(), size, offset_src=start)
        except OSError as err:
            if err.errno not in _NO_COPY:
                raise
            source.seek(start)
            for piece in chunks(source, size):
                write_bytes(target, piece)
            return
        if copied == 0:
            raise changed(Path(source.name))
        start, size = start + copied, size - copied


def write_bytes(target: BinaryIO, data: bytes) -> None:
    """Write all of `data` to an unbuffered file."""
    view = memoryview(data)
    while view:
        view = view[target.write(view) :]


def changed(source: Path) -> BundleError:
    """The error for a file that somebody writes to while it is packed."""
    return BundleError(f"file {source}", "changes while it is read", "a file that nobody writes to", "pack again")


def _not_there(*_: object, **__: object) -> int:
    raise OSError(ENOSYS, os.strerror(ENOSYS))
