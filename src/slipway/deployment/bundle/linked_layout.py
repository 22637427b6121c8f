"""A bundle for a target of this machine: its layers of large files are hard links, the others arrive as tars.

Packing computes the same digests as for any target and writes the same manifests, but no second copy of what lies in
the store: `<root>/layers/<digest>/` of the target is made of links to the store's files, copies where the file system
or a file's owner does not allow links. Nothing of it is an OCI layout that could be moved: `OciLayout` makes that.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.agent.bundle.layer_tar import ROOT, Member, layer_size
from slipway.agent.bundle.layers import Layers
from slipway.agent.bundle.manifest import LAYER_TYPE, Bundle
from slipway.deployment.bundle.files import LARGE, File, Part
from slipway.deployment.bundle.layer_bytes import changed, layer_digest, source_identities
from slipway.deployment.bundle.layer_cuts import Span
from slipway.deployment.bundle.oci_layout import OciLayout, PackedLayer, descriptor_of

Identities = Mapping[Path, tuple[int, int]]


@dataclass(frozen=True)
class _Linked:
    """A layer to link: file below the layer -> its source, and what the sources were when their digest was computed."""

    sources: dict[str, Path]
    identities: Identities


class LinkedLayout(OciLayout):
    """Packs for the target at `root`: small blobs and tars go to its `incoming`, the rest is linked by `adopt`.
    `store`: files below it are ours, so that their modes may be set to the bundle's."""

    def __init__(self, root: Path, store: Path) -> None:
        super().__init__(root / "incoming")
        self.blobs = root / "incoming"
        self._layers, self._store = Layers(root), store.resolve()
        self._linked: dict[str, _Linked] = {}
        self.digests: dict[str, str] = {}

    def add_layer(self, part: Part) -> PackedLayer:
        """As `OciLayout.add_layer`; a layer whose files are whole files of this machine, one of them large, is noted
        for `adopt`. One that the target has costs its reading."""
        files = sorted(part.files, key=lambda file: file.member)
        before = source_identities(files)
        digest, digests = layer_digest(files)
        self.digests |= digests
        if not _is_linkable(files):
            missing = self._layers.missing([digest])
            return super().add_layer(part) if missing else _packed(part, files, digest, digests)
        sources = {file.member.name.removeprefix(ROOT): _source(file) for file in files}
        self._linked[digest] = _Linked(sources, before)
        return _packed(part, files, digest, digests)

    def _claim(self, digest: str) -> None:
        """Nothing: nobody cleans the target's `incoming` up but who holds its lock."""

    def name(self, ref: str, digest: str, size: int, annotations: Mapping[str, str], platform: str = "") -> None:
        """Nothing: a target knows bundles by their digests."""

    def adopt(self, bundle: Bundle) -> int:
        """Make the noted layers of a bundle in the target, whose lock the caller holds; bytes that were copied. Raises
        BundleError for a source that has changed since its digest was computed, ResourceError for a full disk."""
        copied = 0
        for layer in bundle.layers:
            if (linked := self._linked.get(layer.digest)) is None:
                continue
            for member in layer.members:
                self._set_mode(linked.sources[member.name.removeprefix(ROOT)], member)
            copied += self._layers.adopt(layer, linked.sources)
            for source, (size, mtime_ns) in linked.identities.items():
                status = source.stat()
                if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
                    self._layers.discard(layer.digest)
                    raise changed(source)
        return copied

    def _set_mode(self, source: Path, member: Member) -> None:
        """A file of this store under another umask than usual gets the bundle's mode: a link shares it."""
        status = source.stat()
        ours = source.is_relative_to(self._store) and status.st_uid == os.geteuid()
        if ours and stat.S_IMODE(status.st_mode) != member.mode:
            source.chmod(member.mode)


def _packed(part: Part, files: list[File], digest: str, digests: dict[str, str]) -> PackedLayer:
    descriptor = descriptor_of(LAYER_TYPE, digest, layer_size(file.member for file in files), part)
    return PackedLayer(descriptor, [vars(file.member) for file in files], digests, written=False)


def _is_linkable(files: list[File]) -> bool:
    whole = all(
        len(file.content) == 1 and isinstance(file.content[0], Span) and file.content[0].start == 0 for file in files
    )
    return whole and any(file.member.size >= LARGE for file in files)


def _source(file: File) -> Path:
    (span,) = file.content
    assert isinstance(span, Span)  # as `_is_linkable` says
    return span.file.resolve()
