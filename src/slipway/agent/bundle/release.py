"""Releases made of bundles: taken in, linked into a release's folder, checked before every start.

    <release>/bundle.json    {"manifest", "signature", "files_signature"}: digests (hex); the last two may be null
    <release>/model.sig      the signature over the files, for whoever copies the folder
    <release>/index/         the index that the release is searched with, of a release that carries one
    <release>/seal.json      size, mtime, inode and mode of every file, made after every byte was checked

A release without `bundle.json` (of this machine's own store) is sealed too. What else lies at the top of a release is
the target's own: its record, its log, its endpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway.agent.artifact import MANIFEST, listed_files, require_intact
from slipway.agent.bundle.layers import HEX, Layers
from slipway.agent.bundle.manifest import Bundle
from slipway.agent.bundle.signature import OMS, check_signature, read_files_signature, read_signatures, read_trust
from slipway.agent.bundle.tree import check_seal, make_seal, read_seal, scan, verify_tree, write_seal
from slipway.agent.files import remove, write_atomic
from slipway.agent.paths import ENGINE
from slipway.agent.records import Fields, is_present, read_json, read_value
from slipway.errors import BundleError

UNSIGNED = "not a bundle: an artifact of this machine's store"
RECORD, SEAL, RECEIVED = "bundle.json", "seal.json", "received"
# Written by the target itself: a bundle that held one would say how it is started, or that it was checked
RELEASE = "release.json"
RESERVED = (OMS, RECORD, SEAL, RELEASE, "start.json", "endpoint.json")
_NEXT = "bring agent and orchestrator to one version"
_AGAIN = "promote the release again"


def signed_by(root: Path, layers: Layers, manifest: str, signature: str) -> str:
    """Who signed a bundle, by the trust of the target at `root`. Raises BundleError as `check_signature` does."""
    trust = read_trust(root)
    signatures = read_signatures(signature, layers.receive_blob) if signature else []
    return check_signature(manifest, signatures, trust)


def stage(root: Path, document: dict[str, Any], folder: Path) -> Bundle:
    """Make the files of a received bundle in `folder`, a release that is not complete yet, by hard links; what they are
    is for `verify_release` to check. `document`: as of `receive`.

    Raises BundleError for a bundle that was not received, or not signed as the target's trust wants it."""
    fields = Fields(document, "bundle to stage", _NEXT)
    record = {name: fields.text(name, "") or None for name in ("manifest", "signature", "files_signature")}
    layers = Layers(root)
    bundle = layers.bundle(fields.text("manifest", pattern=HEX.pattern))
    signed_by(root, layers, bundle.digest, record["signature"] or "")
    if taken := sorted({*RESERVED} & bundle.members().keys()):
        raise BundleError(
            f"file {taken[0]} of bundle {bundle.digest[:12]}", "the target's own name", "none of those", _AGAIN
        )
    layers.link(bundle, folder)
    if record["files_signature"]:
        (folder / OMS).write_bytes(read_files_signature(record["files_signature"], layers.receive_blob))
    write_atomic(folder / RECORD, json.dumps(record) + "\n")
    remove(root / RECEIVED / bundle.digest)  # the release names its layers from here on
    return bundle


def verify_release(root: Path, folder: Path, *, full: bool) -> str:
    """Check a release before a start; who signed it, for a person. Against its seal where it has one and not `full`: a
    seal that does not fit, as after a backup was put back, leads to the full check, which makes a new one.

    Raises BundleError, for a release of this machine's store also CheckpointError, for what differs; StateError for a
    record that cannot be read."""
    layers, signed, bundle = Layers(root), UNSIGNED, None
    if is_present(folder / RECORD):
        fields = Fields(read_json(folder / RECORD, "bundle of a release", _AGAIN), f"bundle of {folder.name}", _AGAIN)
        bundle = layers.bundle(fields.text("manifest", pattern=HEX.pattern))
        signed = signed_by(root, layers, bundle.digest, fields.text("signature", ""))
    if not full and _is_as_sealed(folder, bundle):
        return signed
    remove(folder / SEAL)  # what differs has none: its next start reads every byte again and is refused
    if bundle is not None:
        verify_tree(bundle, folder, _own(folder, bundle))
    else:
        verify_artifact(folder)
    seal_release(folder, bundle)
    return signed


def _is_as_sealed(folder: Path, bundle: Bundle | None) -> bool:
    seal = read_seal(folder / SEAL)
    try:
        if seal is not None:
            check_seal(seal, folder, _own(folder, bundle))
    except BundleError:
        return False
    return seal is not None


def verify_artifact(folder: Path) -> None:
    """A release of this machine's store: its engine against its own manifest, and nothing beside its files. Raises
    CheckpointError or BundleError for what differs, StateError for a record that cannot be read."""
    record = read_json(folder / RELEASE, f"record of release {folder.name}", _AGAIN)
    digests = Fields(record, f"record of release {folder.name}", _AGAIN).text_map("digests")
    require_intact(folder / ENGINE, digests.get("engine", ""), f"engine {folder.name}")
    listed = {MANIFEST, *(row["path"] for row in listed_files(folder / ENGINE))}
    for name in scan(folder / ENGINE):
        if name not in listed:
            raise BundleError(f"file {folder / ENGINE / name}", "added", "files of the artifact only", "remove it")


def seal_release(folder: Path, bundle: Bundle | None = None) -> None:
    """Seal a release whose every byte has just been checked: the bundle's files, or without one those of its engine.
    Raises BundleError for a link, a path of git or an empty folder among them."""
    write_seal(folder / SEAL, make_seal(folder, _own(folder, bundle)))


def keep_received(root: Path, document: dict[str, Any]) -> None:
    """Note that a bundle was received and is not staged yet: until then no release names its layers. `document`: as of
    `stage`."""
    folder = root / RECEIVED
    folder.mkdir(parents=True, exist_ok=True)
    digests = [document.get(name) for name in ("manifest", "signature", "files_signature")]
    write_atomic(folder / str(document["manifest"]), json.dumps([digest for digest in digests if digest]) + "\n")


def collect(root: Path, releases: Path, *, unstaged: bool = False) -> list[str]:
    """Remove layers and blobs that no release names any more; their digests. `unstaged`: those that were received for a
    release that was never made go too, with what `incoming` holds.

    Raises BundleError or StateError, and removes nothing, when a release's record cannot be read."""
    manifests = set[str]()
    waiting = [file for file in (root / RECEIVED).glob("*") if HEX.fullmatch(file.name)]
    for file in waiting if not unstaged else ():
        manifests |= {str(digest) for digest in read_value(file, "received bundle", _AGAIN)}
    for file in releases.glob(f"*/{RECORD}"):
        manifests |= {str(value) for value in read_json(file, "bundle of a release", _AGAIN).values() if value}
    gone = Layers(root).gc(manifests)
    for file in (*waiting, *(root / "incoming").glob("*")) if unstaged else ():
        remove(file)
    return gone


def _own(folder: Path, bundle: Bundle | None) -> frozenset[str]:
    """Names at the top of a release that are the target's own."""
    ours = {name.partition("/")[0] for name in bundle.members()} if bundle else {ENGINE}
    return frozenset(path.name for path in folder.iterdir() if path.name not in ours)
