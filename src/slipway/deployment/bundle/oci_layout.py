"""Releases as an OCI image layout on disk: packed once, each layer once whatever number of releases names it.

    <layout>/oci-layout  index.json      the releases by name, `org.opencontainers.image.ref.name`, and their signatures
    <layout>/blobs/sha256/<digest>       layers (uncompressed tars), configs, manifests

A layer's digest is computed before anything is written, so a layer that is there costs one reading and no writing. What
is new is copied inside the kernel (`copy_file_range`: blocks are shared on XFS and btrfs where they can be). The same
files give the same digest on every machine: no times, no owners, one order.
"""

from __future__ import annotations

import json
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from slipway.agent.bundle.layer_tar import ROOT, layer_size
from slipway.agent.bundle.layers import HEX, named_digests
from slipway.agent.bundle.manifest import (
    CONFIG_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    MEMBERS,
    PART,
    ROLE,
    Bundle,
    parse_bundle,
)
from slipway.deployment.bundle.claims import Claims
from slipway.deployment.bundle.files import File, Part
from slipway.deployment.bundle.layer_bytes import changed, layer_digest, source_identities, write_bytes, write_layer
from slipway.errors import BundleError
from slipway.system.files import canonical, disk_full_is_named, fsync_directory, sha256_bytes, sha256_file, write_atomic
from slipway.system.json_files import is_present, read_json
from slipway.system.locks import FOREVER, locked

REF, CREATED = "org.opencontainers.image.ref.name", "org.opencontainers.image.created"
SIGNATURES, FILES_SIGNATURE = "sig", "oms"  # suffixes of what is attached
INDEX, MARK, BLOBS = "index.json", "oci-layout", "blobs/sha256"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_ATTACHED = re.compile(r"sha256-[0-9a-f]{64}\.\w+")
_VERSION = {"imageLayoutVersion": "1.0.0"}


@dataclass(frozen=True)
class PackedLayer:
    """A layer that lies in the layout: its descriptor, its files, sha256 of each by its path in the tree; whether it
    was written by this packing."""

    descriptor: dict[str, Any]
    members: list[dict[str, Any]]
    digests: dict[str, str]
    written: bool


class OciLayout:
    """A layout folder; made at its first use. Several processes may pack into it: layers that one of them added stay
    until its claim is released (`claims.py`)."""

    def __init__(self, path: Path) -> None:
        self.path, self.blobs = path, path / BLOBS
        self.claim = uuid.uuid4().hex
        self._lock, self._claims = path.with_name(f"{path.name}.lock"), Claims(path)

    def add_layer(self, part: Part) -> PackedLayer:
        """Put a layer in, unless it is there. Raises BundleError for a file that changes while it is read,
        ResourceError for a full disk."""
        files = sorted(part.files, key=lambda file: file.member)
        before = source_identities(files)
        digest, digests = layer_digest(files)
        size = layer_size(file.member for file in files)
        self._claim(digest)
        blob = self.blobs / digest
        written = not (blob.is_file() and blob.stat().st_size == size)
        if written:
            self._write(digest, lambda target: _write_unchanged(files, before, target))
        descriptor = descriptor_of(LAYER_TYPE, digest, size, part)
        return PackedLayer(descriptor, [vars(file.member) for file in files], digests, written)

    def add_blob(self, data: bytes) -> str:
        """Put a small blob in; its sha256."""
        digest = sha256_bytes(data)
        blob = self.blobs / digest
        if not blob.is_file() or blob.read_bytes() != data:
            self._write(digest, lambda target: write_bytes(target, data))
        return digest

    def add_manifest(
        self, layers: list[PackedLayer], architecture: str, annotations: Mapping[str, str]
    ) -> tuple[Bundle, int]:
        """Config and manifest over layers that are in; the bundle, and the manifest's size in bytes."""
        config = canonical(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"WorkingDir": f"/{ROOT.rstrip('/')}"},
                "rootfs": {"type": "layers", "diff_ids": [layer.descriptor["digest"] for layer in layers]},
                MEMBERS: [layer.members for layer in layers],
            }
        )
        manifest = _manifest(
            _descriptor(CONFIG_TYPE, self.add_blob(config), len(config)),
            [layer.descriptor for layer in layers],
            annotations,
        )
        self.add_blob(manifest)
        return parse_bundle(manifest, config), len(manifest)

    def attach(self, bundle: Bundle, suffix: str, media_type: str, data: bytes, annotations: Mapping[str, str]) -> str:
        """A manifest that holds one document about a bundle; its sha256. It is found by the tag
        `sha256-<digest>.<suffix>`, as cosign's signatures are."""
        digest = self.add_blob(data)
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
        config = canonical({"architecture": "", "os": "", "rootfs": rootfs})
        layer = _descriptor(media_type, digest, len(data), annotations)
        manifest = _manifest(_descriptor(CONFIG_TYPE, self.add_blob(config), len(config)), [layer], {})
        attached = self.add_blob(manifest)
        self.name(attached_ref(bundle.digest, suffix), attached, len(manifest), {})
        return attached

    def name(self, ref: str, digest: str, size: int, annotations: Mapping[str, str], platform: str = "") -> None:
        """Enter a manifest in the index under a name, in place of what had it; our claim ends."""
        row = _descriptor(MANIFEST_TYPE, digest, size, {**annotations, REF: ref})
        if platform:
            row["platform"] = {"architecture": platform, "os": "linux"}
        with locked(self._lock, FOREVER, f"entry of {ref}"):
            self._write_index([*(one for one in self.entries() if _ref(one) != ref), row])
            self._claims.release(self.claim)

    def entries(self) -> list[dict[str, Any]]:
        """Rows of the index; none for a layout that is not there. Raises BundleError for an index of something else."""
        if not is_present(self.path / INDEX):
            return []
        rows = read_json(self.path / INDEX, "index of the layout", "pack the release again").get("manifests")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BundleError(f"index {self.path / INDEX}", f"{rows!r:.100}", "rows of manifests", "pack again")
        return rows

    def refs(self) -> list[str]:
        """Names of the releases in it, as entered; signatures are not among them."""
        return [_ref(row) for row in self.entries() if not _ATTACHED.fullmatch(_ref(row))]

    def attached(self, digest: str, suffix: str) -> str | None:
        """The manifest (sha256, hex) of what is attached to a bundle under this suffix; None when nothing is."""
        ref = attached_ref(digest, suffix)
        return self.digest_of(ref) if any(_ref(row) == ref for row in self.entries()) else None

    def digest_of(self, ref: str) -> str:
        """The manifest's sha256 (hex) by a name. Raises BundleError when there is none."""
        for row in self.entries():
            if _ref(row) == ref:
                return str(row.get("digest")).removeprefix("sha256:")
        step = f"one of {', '.join(self.refs()[-5:]) or '(none)'}"
        raise BundleError(f"bundle {ref} in {self.path}", "not there", "a name of the index", step)

    def read_blob(self, digest: str) -> bytes:
        """A small blob, checked. Raises BundleError when it is missing or damaged."""
        if not HEX.fullmatch(digest):
            raise BundleError(f"blob {digest!r:.100} of {self.path}", "no digest", "64 hex digits", "pack again")
        file = self.blobs / digest
        try:
            data = file.read_bytes()
        except OSError as err:
            raise BundleError(f"blob {file}", err.strerror or str(err), "a blob of the layout", "pack again") from err
        if sha256_bytes(data) != digest:
            raise BundleError(
                f"blob {file}", f"digest {sha256_bytes(data)[:12]}", "the bytes of its name", "pack again"
            )
        return data

    def discard_damaged(self, digests: Iterable[str]) -> list[str]:
        """Read these blobs (hex) and remove those whose bytes are not those of their names: packing makes them anew."""
        present = [digest for digest in digests if (self.blobs / digest).is_file()]
        damaged = [digest for digest in present if sha256_file(self.blobs / digest) != digest]
        for digest in damaged:
            (self.blobs / digest).unlink()
        return damaged

    def bundle(self, digest: str) -> Bundle:
        """The bundle of a manifest digest (hex). Raises BundleError as `read_blob` and `parse_bundle` do."""
        manifest = self.read_blob(digest)
        try:
            config = str(json.loads(manifest)["config"]["digest"]).removeprefix("sha256:")
        except (ValueError, TypeError, KeyError, RecursionError):
            raise BundleError(f"manifest {digest[:12]}", "no config", "a manifest of a bundle", "pack again") from None
        return parse_bundle(manifest, self.read_blob(config) if len(config) == 64 else b"")

    def keep(self, refs: Iterable[str]) -> int:
        """Remove all releases but these, with every blob that none of them names; bytes that were freed."""
        wanted = set(refs)
        with locked(self._lock, FOREVER, f"removal from {self.path}"):
            entries = self.entries()
            digests = {str(row.get("digest")).removeprefix("sha256:") for row in entries if _ref(row) in wanted}
            wanted |= {attached_ref(digest, suffix) for digest in digests for suffix in (SIGNATURES, FILES_SIGNATURE)}
            rows = [row for row in entries if _ref(row) in wanted]
            named = {name for row in rows for name in self.named(str(row["digest"]).removeprefix("sha256:"))}
            self._write_index(rows)
            return self._sweep(named)

    def sweep(self, wanted: Iterable[str]) -> int:
        """Remove every blob but these (hex) and what is claimed; bytes that were freed. The index is not looked at."""
        with locked(self._lock, FOREVER, f"removal from {self.path}"):
            return self._sweep(set(wanted))

    def release(self, claim: str) -> None:
        """End a claim: its layers stay where the index or another claim names them. Raises as `Claims.release`."""
        with locked(self._lock, FOREVER, f"claim on {self.path}"):
            self._claims.release(claim)

    def _claim(self, digest: str) -> None:
        """Before one looks whether a layer is there: it is not taken away then."""
        with locked(self._lock, FOREVER, f"claim on {self.path}"):
            self._claims.add(self.claim, digest)

    def _sweep(self, wanted: set[str]) -> int:
        """As `sweep`, by who holds the lock. What is half-written has its digest in its name (`_write`)."""
        wanted = wanted | self._claims.held()
        doomed = [file for file in self.blobs.iterdir() if file.name.removeprefix(".").partition(".")[0] not in wanted]
        freed = sum(file.stat().st_size for file in doomed)
        for file in doomed:
            file.unlink()
        return freed

    def named(self, digest: str) -> set[str]:
        """A manifest and all blobs that it names. Raises BundleError as `read_blob` does, and for no manifest."""
        return {digest, *named_digests(self.read_blob(digest), digest)}

    def _write_index(self, rows: list[dict[str, Any]]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / MARK, json.dumps(_VERSION))
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": rows}
        write_atomic(self.path / INDEX, json.dumps(index, indent=1) + "\n")

    def _write(self, digest: str, write: Callable[[BinaryIO], None]) -> None:
        """A blob, whole and on the disk under its name, or not there."""
        self.blobs.mkdir(parents=True, exist_ok=True)
        partial = self.blobs / f".{digest}.{os.getpid()}.{threading.get_ident()}"
        try:
            with disk_full_is_named(self.blobs), partial.open("wb", buffering=0) as target:
                write(cast("BinaryIO", target))
                os.fsync(target.fileno())
            partial.replace(self.blobs / digest)
            fsync_directory(self.blobs)
        finally:
            partial.unlink(missing_ok=True)


def attached_ref(digest: str, suffix: str) -> str:
    """The tag of what is attached to the bundle of this manifest digest (hex)."""
    return f"sha256-{digest}.{suffix}"


def _write_unchanged(files: list[File], before: Mapping[Path, tuple[int, int]], target: BinaryIO) -> None:
    """A layer of files that are as they were when its digest was computed."""
    write_layer(files, target)
    for source, identity in source_identities(files).items():
        if identity != before[source]:
            raise changed(source)


def descriptor_of(media_type: str, digest: str, size: int, part: Part) -> dict[str, Any]:
    """The descriptor of a part's layer, as manifests hold it."""
    return _descriptor(media_type, digest, size, {ROLE: part.role, PART: part.name})


def _descriptor(
    media_type: str, digest: str, size: int, annotations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    row = {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}
    return {**row, "annotations": dict(annotations)} if annotations else row


def _manifest(config: dict[str, Any], layers: list[dict[str, Any]], annotations: Mapping[str, str]) -> bytes:
    document = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers}
    return canonical({**document, "annotations": dict(annotations)} if annotations else document)


def _ref(row: Mapping[str, Any]) -> str:
    annotations = row.get("annotations")
    return str(annotations.get(REF, "")) if isinstance(annotations, dict) else ""
