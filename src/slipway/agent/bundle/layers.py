"""Bundles on a target: blobs taken in by digest, layers kept as their files, releases as hard links to them.

    <root>/incoming/<sha256>        what a transport wrote, whole or in part
    <root>/blobs/<sha256>           manifests, configs and signatures, as they are
    <root>/layers/<sha256>/         the files of a layer, by their paths below the image's `models/`

A blob that arrives is read once for its digest. A layer of one large file is then not copied: the head of its tar is
cut off in place (Linux: `fallocate(COLLAPSE_RANGE)` on ext4 and XFS), so that 42 GB of weights are written once.
The tar is gone after that; it follows from names, sizes, modes and mtimes of the files (`agent/bundle/layer_tar.py`).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Mapping
from errno import EINVAL, EMLINK, ENOTSUP, EPERM, EXDEV
from pathlib import Path

from slipway.agent.bundle.layer_tar import ALIGNMENT, ROOT, Member, chunks, members_of
from slipway.agent.bundle.manifest import (
    CONFIG_TYPE,
    LARGEST_DOCUMENT,
    Bundle,
    Layer,
    check_architecture,
    descriptor,
    json_object,
    parse_bundle,
)
from slipway.agent.bundle.tree import verify_layer
from slipway.errors import BundleError

HEX = re.compile(r"[0-9a-f]{64}")
_TMP = ".tmp-"
_COPIED = 4 << 20  # bytes at a time where the kernel does not copy
_COLLAPSE_RANGE = 0x08  # FALLOC_FL_COLLAPSE_RANGE of linux/falloc.h
_NEXT = "send it again: what has arrived whole is kept"


class Layers:
    """The bundles under a target's root. Callers hold the target's lock."""

    def __init__(self, root: Path) -> None:
        self.incoming, self.blobs, self.layers = root / "incoming", root / "blobs", root / "layers"

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those of `digests` (hex) that have not been received, in their order. Raises BundleError for one that is no
        sha256."""
        wanted = list(dict.fromkeys(digests))
        for digest in wanted:
            if not HEX.fullmatch(digest):
                raise BundleError("digest of a blob", f"{digest!r:.100}", "64 hex digits of a sha256", "ask for those")
        return [one for one in wanted if not (self.layers / one).is_dir() and not (self.blobs / one).is_file()]

    def collect(self, source: Path, digest: str) -> int:
        """Copy a blob of another folder into `incoming`; its bytes. A copy, where the file system can one that shares
        blocks: the head of the file is cut off later. Raises OSError for a file that cannot be read."""
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
        arriving = self.incoming / digest
        with os.fdopen(descriptor, "rb", buffering=0) as blob, arriving.open("wb", buffering=0) as target:
            left = size = os.fstat(blob.fileno()).st_size
            while left > 0:
                try:
                    done = os.copy_file_range(blob.fileno(), target.fileno(), left)
                except OSError as err:
                    if err.errno not in (EXDEV, ENOTSUP, EPERM, EINVAL):
                        raise
                    done = target.write(blob.read(min(left, _COPIED)) or b"")
                if not done:
                    break
                left -= done
        return size

    def receive_blob(self, digest: str) -> bytes:
        """A small blob, taken in from `incoming` if it is not here yet. Raises BundleError when it is missing, larger
        than 4 MiB, or has another digest."""
        file = self.blobs / digest if (self.blobs / digest).is_file() else self.incoming / digest
        _check_regular(file, digest, most=LARGEST_DOCUMENT)
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            if file.parent == self.incoming:
                file.unlink()  # a transport that skips what is there would never mend it
            raise _other_bytes(digest, hashlib.sha256(data).hexdigest())
        if file.parent == self.incoming:
            self.blobs.mkdir(parents=True, exist_ok=True)
            _flush(file)
            file.replace(self.blobs / digest)
            _flush(self.blobs)
        return data

    def bundle(self, digest: str) -> Bundle:
        """The bundle whose manifest has this digest, by its documents. Raises BundleError as `receive_blob` and
        `parse_bundle` do."""
        self.missing([digest])
        manifest = self.receive_blob(digest)
        thing = f"config in manifest {digest[:12]}"
        config = descriptor(json_object(manifest, thing).get("config"), CONFIG_TYPE, thing)
        return parse_bundle(manifest, self.receive_blob(config.digest))

    def receive(self, digest: str, *, machine: str | None = None) -> Bundle:
        """Take in every layer of the bundle whose manifest has this digest; what `incoming` holds of it is gone then.

        Raises BundleError, before anything is unpacked, for a bundle of another architecture than `machine` (default:
        this one), and for a layer that is missing, cut, damaged, or holds other files than the config says."""
        bundle = self.bundle(digest)
        check_architecture(bundle, machine)
        self.sweep()
        for layer in bundle.layers:
            if not (self.layers / layer.digest).is_dir():
                self._take(layer)
            (self.incoming / layer.digest).unlink(missing_ok=True)
        return bundle

    def link(self, bundle: Bundle, folder: Path) -> None:
        """Make the tree of a received bundle in `folder`: hard links, copies where links cannot be made and of files at
        the top, which somebody may write to again: that would change the layer."""
        for name, (member, layer) in bundle.members().items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(self.layers / layer.digest / name, target, member, copied="/" not in name)

    def adopt(self, layer: Layer, sources: Mapping[str, Path]) -> int:
        """Make a layer of files of this machine, whose bytes the caller knows: hard links, copies where links cannot be
        made or the file has another mode or mtime than the layer's. A layer that is there stays, unless its bytes are
        others; bytes that were copied."""
        if (self.layers / layer.digest).is_dir():
            try:
                self.verify(layer)
                return 0
            except (BundleError, OSError):
                self.discard(layer.digest)
        partial, copied = self.layers / f"{_TMP}{layer.digest}", 0
        shutil.rmtree(partial, ignore_errors=True)
        for member in layer.members:
            name = member.name.removeprefix(ROOT)
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            status = sources[name].stat()
            same = stat.S_IMODE(status.st_mode) == member.mode and member.mtime_ns in (0, status.st_mtime_ns)
            if not _link(sources[name], target, member, copied=not same):
                copied += member.size
            _flush(target)
        partial.rename(self.layers / layer.digest)
        _flush(self.layers)
        return copied

    def discard(self, digest: str) -> None:
        """Remove a layer; releases that link its files keep theirs."""
        aside = self.layers / f"{_TMP}{digest}"
        shutil.rmtree(aside, ignore_errors=True)
        (self.layers / digest).rename(aside)
        shutil.rmtree(aside)

    def verify(self, layer: Layer) -> None:
        """Raise BundleError unless every byte of a received layer is as it was."""
        verify_layer(layer, self.layers / layer.digest)

    def gc(self, manifests: Collection[str]) -> list[str]:
        """Remove layers and blobs that none of these manifests (hex; of bundles and of their signatures) names; their
        digests. Raises BundleError, and removes nothing, when one of them cannot be read: then nothing can be called
        unneeded."""
        keep = {
            name for manifest in manifests for name in (manifest, *named_digests(self.receive_blob(manifest), manifest))
        }
        self.sweep()
        rooms = [room for room in (self.layers, self.blobs) if room.is_dir()]
        present = sorted(path for room in rooms for path in room.iterdir() if HEX.fullmatch(path.name))
        removed = []
        for path in (path for path in present if path.name not in keep):
            aside = path.rename(path.with_name(f"{_TMP}{path.name}"))  # a kill leaves it whole or out of the way
            shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
            removed.append(path.name)
        return removed

    def sweep(self) -> None:
        """Remove what killed processes left half-unpacked or half-removed."""
        for room in (self.layers, self.blobs):
            for path in room.glob(f"{_TMP}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _take(self, layer: Layer) -> None:
        """Check the incoming tar against digest and files, then keep its files."""
        file = self.incoming / layer.digest
        _check_regular(file, layer.digest, exactly=layer.size)
        with file.open("rb") as stream:
            digest = hashlib.sha256()
            for chunk in chunks(stream):
                digest.update(chunk)
            if digest.hexdigest() != layer.digest:
                file.unlink()  # a transport that skips what is there would never mend it
                raise _other_bytes(layer.digest, digest.hexdigest())
            stream.seek(0)
            members = members_of(stream)
        if tuple(member for member, _ in members) != layer.members:
            raise BundleError(f"layer {layer.digest[:12]}", "other files", "those that the config names", _NEXT)
        partial = self.layers / f"{_TMP}{layer.digest}"
        partial.mkdir(parents=True)
        _unpack(file, members, partial)
        partial.rename(self.layers / layer.digest)
        _flush(self.layers)


def named_digests(manifest: bytes, digest: str) -> set[str]:
    """Digests (hex) of config and layers that the manifest of this digest names. Raises BundleError for a document of
    something else."""
    document = json_object(manifest, f"manifest {digest[:12]}")
    try:
        return {str(row["digest"]).partition(":")[2] for row in (document["config"], *document["layers"])}
    except (KeyError, TypeError):
        value = f"{document!r:.100}"
        raise BundleError(f"manifest {digest[:12]}", value, "config and layers with digests", _NEXT) from None


def _unpack(file: Path, members: list[tuple[Member, int]], folder: Path) -> None:
    """The files of a checked tar, flushed. The tar is used up where its only content can be cut free."""
    targets = [folder / member.name.removeprefix(ROOT) for member, _ in members]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    if len(members) == 1 and members[0][1] == ALIGNMENT:
        file.replace(targets[0])
        if not _cut_head(targets[0], members[0][0].size):
            targets[0].replace(file)
    for target, (member, start) in zip(targets, members, strict=True):
        if not target.exists():
            _copy_range(file, start, member.size, target)
        _stamp(target, member)
        _flush(target)


def _cut_head(file: Path, size: int) -> bool:
    """Remove the first 4096 bytes of a file and all behind the `size` that follow, without copying; whether the file
    system does that."""
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if fallocate is None:
        return False
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    with file.open("r+b") as stream:
        if fallocate(stream.fileno(), _COLLAPSE_RANGE, 0, ALIGNMENT) != 0:
            return False
        stream.truncate(size)
    return True


def _copy_range(source: Path, start: int, size: int, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        reader.seek(start)
        for chunk in chunks(reader, size):
            writer.write(chunk)


def _stamp(file: Path, member: Member) -> None:
    """Mode and mtime as in the tar: a layer's digest covers them, and engines judge caches by mtimes."""
    file.chmod(member.mode)
    os.utime(file, ns=(member.mtime_ns, member.mtime_ns))


def _link(source: Path, target: Path, member: Member, *, copied: bool) -> bool:
    """Whether it is a link and no bytes were copied."""
    if not copied:
        try:
            os.link(source, target)
            return True
        except OSError as err:
            if err.errno not in (EXDEV, EPERM, EMLINK, ENOTSUP):
                raise
    shutil.copyfile(source, target)
    _stamp(target, member)
    return False


def _check_regular(file: Path, digest: str, *, exactly: int | None = None, most: int | None = None) -> None:
    try:
        status = file.lstat()
    except OSError as err:
        raise BundleError(f"blob {digest[:12]}", f"{file}: {err.strerror}", "the blob, received", _NEXT) from err
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"blob {digest[:12]}", f"{file}: no regular file", "a file", "remove it and send it again")
    if exactly is not None and status.st_size != exactly:
        if status.st_size > exactly:
            file.unlink()  # a transport that goes on after the last byte would never mend it
        raise BundleError(f"blob {digest[:12]}", f"{status.st_size} bytes", f"{exactly} bytes", _NEXT)
    if most is not None and status.st_size > most:
        raise BundleError(f"blob {digest[:12]}", f"{status.st_size} bytes", f"a document of at most {most}", _NEXT)


def _other_bytes(digest: str, actual: str) -> BundleError:
    return BundleError(f"blob {digest[:12]}", f"digest {actual[:12]}", "the bytes of its name", _NEXT)


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
