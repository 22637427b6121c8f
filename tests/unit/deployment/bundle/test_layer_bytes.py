"""The bytes of a layer: copied in the kernel or not, they are what was digested."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.bundle.layer_tar import Member, members_of
from slipway.deployment.bundle.files import File
from slipway.deployment.bundle.layer_bytes import layer_digest, source_identities, write_layer
from slipway.deployment.bundle.layer_cuts import Span
from slipway.errors import BundleError


def files_of(tmp_path: Path) -> list[File]:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 8000)
    spans = (b"header", Span(source, 1000, 500_000), Span(source, 0, 10))
    return [File(Member("models/a", 500_016), spans), File(Member("models/b", 3), (b"end",))]


def unsupported(*_: Any, **__: Any) -> int:
    raise OSError(errno.EXDEV, "cross-device")


@pytest.mark.parametrize("in_kernel", [True, False])
def test_what_is_written_is_what_was_digested(tmp_path: Path, in_kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not in_kernel:
        monkeypatch.setattr(os, "copy_file_range", unsupported)
    files = files_of(tmp_path)
    with (tmp_path / "layer").open("wb", buffering=0) as target:
        write_layer(files, target)
    data = (tmp_path / "layer").read_bytes()
    digest, digests = layer_digest(files)
    assert hashlib.sha256(data).hexdigest() == digest
    members = members_of(io.BytesIO(data))
    assert {
        member.name.removeprefix("models/"): hashlib.sha256(data[at : at + member.size]).hexdigest()
        for member, at in members
    } == digests


def test_a_source_that_shrinks_is_named(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    before = source_identities(files)
    (tmp_path / "source").write_bytes(b"short")
    assert source_identities(files) != before
    with pytest.raises(BundleError, match="source: changes while it is read"):
        layer_digest(files)
    with (tmp_path / "layer").open("wb", buffering=0) as target, pytest.raises(BundleError, match="changes"):
        write_layer(files, target)
