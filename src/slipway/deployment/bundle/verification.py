"""Is this release what was signed: an OCI layout, a release on a target, or a tree of files, checked byte for byte.

| what | how it is known | what it is checked against |
|---|---|---|
| layout | `oci-layout` | every blob's digest, every layer's files, both signatures of every release |
| release on a target | `bundle.json` | manifest and signature that the target holds, as before a start in full |
| release of a store of this machine | `release.json` | its engine's own manifest; nobody signed it |
| tree | `model.sig` | the signed digests; names, sizes, modes and mtimes of `files.json` |

Nothing is written, and no store is needed.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipway.agent.bundle.layer_tar import chunks, members_of
from slipway.agent.bundle.layers import Layers
from slipway.agent.bundle.manifest import Bundle, Layer
from slipway.agent.bundle.release import RECORD, RELEASE, UNSIGNED, verify_artifact
from slipway.agent.bundle.signature import (
    OMS,
    Trust,
    check_signature,
    read_files_signature,
    read_signatures,
)
from slipway.agent.bundle.tree import scan, verify_tree
from slipway.agent.paths import ENGINE
from slipway.agent.records import Fields, is_present, read_json
from slipway.deployment.bundle.files import check_files_document
from slipway.deployment.bundle.files_signature import (
    check_files_signature,
    compare,
    read_files_signature_of,
    signed_digests,
)
from slipway.deployment.bundle.oci_layout import FILES_SIGNATURE, INDEX, MARK, SIGNATURES, OciLayout
from slipway.errors import BundleError
from slipway.system.files import sha256_file

_NEXT = "remove it, or pack the release again"


@dataclass(frozen=True)
class Verified:
    """A release that is what was signed. `kind`: layout, release or tree; `digest`: of its manifest (hex), empty for a
    tree; `parts`: part -> files; `signed`: who signed manifest and files, a sentence each."""

    kind: str
    path: Path
    name: str
    digest: str
    architecture: str
    files: int
    bytes: int
    parts: dict[str, int]
    signed: list[str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "path": str(self.path)}


def verify(path: Path, trust: Trust) -> list[Verified]:
    """Every release at `path`. Raises BundleError for the first thing that is not as it was signed, or that nobody who
    is trusted signed (`trust.policy` enforce); for a path that is none of the three."""
    if (path / MARK).is_file():
        return _verify_layout(OciLayout(path), trust)
    if is_present(path / RECORD):
        return [_verify_release(path, trust)]
    if is_present(path / OMS):
        return [_verify_tree(path, trust)]
    if is_present(path / RELEASE):
        return [_verify_own(path, trust)]
    raise BundleError(
        f"path {path}",
        "no release" if path.is_dir() else "no folder",
        f"a folder with {MARK} (a layout), {RECORD} or {RELEASE} (a release on a target) or {OMS} (its files)",
        "name one of these",
    )


def _verify_layout(layout: OciLayout, trust: Trust) -> list[Verified]:
    refs = layout.refs()
    if not refs:
        raise BundleError(f"layout {layout.path}", "no releases", "at least one", "pack a release")
    digests: dict[str, dict[str, str]] = {}
    releases = [_verify_ref(layout, ref, trust, digests) for ref in refs]
    _check_strays(layout)
    return releases


def _verify_ref(layout: OciLayout, ref: str, trust: Trust, digests: dict[str, dict[str, str]]) -> Verified:
    """One release of a layout. `digests`: layer -> sha256 of its files, of the layers that were read before."""
    begin = time.monotonic()
    bundle = layout.bundle(layout.digest_of(ref))
    signature = layout.attached(bundle.digest, SIGNATURES)
    signatures = read_signatures(signature, layout.read_blob) if signature else []
    signed = [f"manifest {check_signature(bundle.digest, signatures, trust)}"]
    for layer in bundle.layers:
        if layer.digest not in digests:
            digests[layer.digest] = _layer_digests(layout, layer)
    files = {name: digest for layer in bundle.layers for name, digest in digests[layer.digest].items()}
    attached = layout.attached(bundle.digest, FILES_SIGNATURE)
    if attached:
        content = read_files_signature(attached, layout.read_blob)
        compare(signed_digests(content), files, f"release {ref}")
        signed.append(f"files {check_files_signature(content, trust)}")
    return _verified("layout", layout.path, ref, bundle, signed, begin)


def _layer_digests(layout: OciLayout, layer: Layer) -> dict[str, str]:
    """sha256 of the files of a layer's blob, by path. Raises BundleError unless blob and files are those named."""
    file = layout.blobs / layer.digest
    if file.is_symlink() or not file.is_file():
        raise BundleError(f"blob {file}", "missing" if not is_present(file) else "no regular file", "a layer", _NEXT)
    if file.stat().st_size != layer.size:
        raise BundleError(f"blob {file}", f"{file.stat().st_size} bytes", f"{layer.size}", _NEXT)
    if (digest := sha256_file(file)) != layer.digest:
        raise BundleError(f"blob {file}", f"digest {digest[:12]}", "the bytes of its name", _NEXT)
    contents: dict[str, str] = {}
    with file.open("rb") as stream:
        members = members_of(stream)
        if tuple(member for member, _ in members) != layer.members:
            raise BundleError(f"blob {file}", "other files", "those that the config names", _NEXT)
        for member, start in members:
            stream.seek(start)
            content = hashlib.sha256()
            for chunk in chunks(stream, member.size):
                content.update(chunk)
            contents[member.name.partition("/")[2]] = content.hexdigest()
    return contents


def _check_strays(layout: OciLayout) -> None:
    """Nothing lies in the layout that no manifest names."""
    named = {MARK, INDEX}
    for row in layout.entries():
        digest = str(row.get("digest")).removeprefix("sha256:")
        named |= {f"blobs/sha256/{one}" for one in layout.named(digest)}
    for name in scan(layout.path):
        if name not in named:
            raise BundleError(f"file {layout.path / name}", "added: no release names it", "blobs that are named", _NEXT)


def _verify_release(folder: Path, trust: Trust) -> Verified:
    """A release in the folder of its target: `<root>/releases/<name>`."""
    begin = time.monotonic()
    fields = Fields(read_json(folder / RECORD, "bundle of a release", _NEXT), f"bundle of {folder}", _NEXT)
    layers = Layers(folder.resolve().parent.parent)
    bundle = layers.bundle(fields.text("manifest"))
    signature = fields.text("signature", "")
    signatures = read_signatures(signature, layers.receive_blob) if signature else []
    signed = [f"manifest {check_signature(bundle.digest, signatures, trust)}"]
    ours = {name.partition("/")[0] for name in bundle.members()}
    verify_tree(bundle, folder, [path.name for path in folder.iterdir() if path.name not in ours])
    return _verified("release", folder, folder.name, bundle, signed, begin)


def _verify_own(folder: Path, trust: Trust) -> Verified:
    """A release that this machine's store was linked into: it has digests and no signature."""
    begin = time.monotonic()
    signed = check_signature(folder.name, (), trust)
    verify_artifact(folder)
    statuses = scan(folder / ENGINE)
    nbytes = sum(status.st_size for status in statuses.values())
    seconds = round(time.monotonic() - begin, 3)
    parts = {"engine": len(statuses)}
    return Verified("release", folder, folder.name, "", "", len(statuses), nbytes, parts, [UNSIGNED, signed], seconds)


def _verify_tree(tree: Path, trust: Trust) -> Verified:
    """Files without a manifest of their own: as unpacked from an image, or copied."""
    begin = time.monotonic()
    signature = read_files_signature_of(tree)
    statuses = scan(tree, (OMS,))
    present = {name: sha256_file(tree / name) for name in statuses}
    compare(signed_digests(signature), present, f"tree {tree}")
    check_files_document(tree, statuses)
    signed = [f"files {check_files_signature(signature, trust)}"]
    parts = Counter(name.partition("/")[0] if "/" in name else "documents" for name in present)
    nbytes = sum(status.st_size for status in statuses.values())
    seconds = round(time.monotonic() - begin, 3)
    return Verified("tree", tree, tree.name, "", "", len(present), nbytes, dict(parts), signed, seconds)


def _verified(kind: str, path: Path, name: str, bundle: Bundle, signed: list[str], begin: float) -> Verified:
    parts = Counter[str]()
    for layer in bundle.layers:
        parts[layer.part] += len(layer.members)
    nbytes = sum(member.size for member, _ in bundle.members().values())
    seconds = round(time.monotonic() - begin, 3)
    files = len(bundle.members())
    return Verified(kind, path, name, bundle.digest, bundle.architecture, files, nbytes, dict(parts), signed, seconds)
