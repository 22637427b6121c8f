"""Releases made of bundles: taken in, linked into a release's folder, checked before every start.

    <release>/bundle.json    {"manifest", "signature", "files_signature"}: digests (hex); the last two may be null
    <release>/model.sig      the signature over the files, for whoever copies the folder
    <release>/seal.json      size, mtime, inode and mode of every file, made after every byte was checked

A release without `bundle.json` (of this machine's own store) is sealed too. What else lies at the top of a release is
the target's own: its record, its log, its endpoint.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.agent.bundle_manifest import Bundle
from slipway.agent.files import write_atomic
from slipway.agent.layers import HEX, Layers
from slipway.agent.records import Fields, is_present, read_json
from slipway.agent.signature import OMS, check_signature, read_files_signature, read_signatures, read_trust
from slipway.agent.tree import check_seal, make_seal, read_seal, verify_tree, write_seal
from slipway.errors import BundleError

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note

RECORD, SEAL, ENGINE = "bundle.json", "seal.json", "engine"
# Written by the target itself: a bundle that held one would say how it is started, or that it was checked
RESERVED = (OMS, RECORD, SEAL, "release.json", "start.json", "endpoint.json")
_NEXT = "bring agent and orchestrator to one version"
_AGAIN = "promote the release again"


def missing(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (every verb has this shape)
    """The verb `missing`: `{"digests": [hex...]}` -> `{"missing": [hex...]}`, those that must be sent."""
    digests = Fields(document, "verb missing", _NEXT).texts("digests")
    return {"missing": Layers(agent.paths.root).missing(digests)}


def receive(agent: Agent, document: Document, note: Note) -> Document:
    """The verb `receive`: take in a bundle that was sent, by digest; its signature is looked at before its layers.

    `{"manifest", "signature", "files_signature"}` (hex; the last two may be absent) -> `{"bundle", "signed", "bytes"}`.
    Raises BundleError for what is damaged, for another architecture, and where the target's trust says `enforce`, for
    a bundle that nobody trusted signed."""
    fields = Fields(document, "verb receive", _NEXT)
    manifest, signature = fields.text("manifest", pattern=HEX.pattern), fields.text("signature", "")
    layers = Layers(agent.paths.root)
    signed = signed_by(agent.paths.root, layers, manifest, signature)
    note(signed)
    if files_signature := fields.text("files_signature", ""):
        read_files_signature(files_signature, layers.receive_blob)
    bundle = layers.receive(manifest)
    return {"bundle": manifest, "signed": signed, "bytes": sum(layer.size for layer in bundle.layers)}


def verify(agent: Agent, document: Document, note: Note) -> Document:
    """The verb `verify`: `{"release": name, "full": true}` -> `{"release", "files", "signed", "seconds"}`.

    `full`: every byte; else against the seal, and in full where there is none. Raises BundleError for what differs."""
    fields = Fields(document, "verb verify", _NEXT)
    name, full = fields.text("release"), fields.flag("full", True)
    folder, begin = agent.paths.release(name), time.monotonic()
    signed = verify_release(agent.paths.root, folder, full=full)
    note(f"{name}: {signed}")
    files = len(read_seal(folder / SEAL) or {})
    return {"release": name, "files": files, "signed": signed, "seconds": round(time.monotonic() - begin, 3)}


def signed_by(root: Path, layers: Layers, manifest: str, signature: str) -> str:
    """Who signed a bundle, by the trust of the target at `root`. Raises BundleError as `check_signature` does."""
    trust = read_trust(root)
    signatures = read_signatures(signature, layers.receive_blob) if signature else []
    return check_signature(manifest, signatures, trust)


def stage(root: Path, document: Document, folder: Path) -> Bundle:
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
    return bundle


def verify_release(root: Path, folder: Path, *, full: bool) -> str:
    """Check a release before a start, against its seal or in full; who signed it, for a person. A full check renews the
    seal. Raises BundleError for what differs, StateError for a record that cannot be read."""
    layers, signed, bundle = Layers(root), "no bundle: made of this machine's store", None
    if is_present(folder / RECORD):
        fields = Fields(read_json(folder / RECORD, "bundle of a release", _AGAIN), f"bundle of {folder.name}", _AGAIN)
        bundle = layers.bundle(fields.text("manifest", pattern=HEX.pattern))
        signed = signed_by(root, layers, bundle.digest, fields.text("signature", ""))
    seal = read_seal(folder / SEAL)
    if seal is not None and not full:
        check_seal(seal, folder, _own(folder, bundle))
    elif bundle is not None:
        verify_tree(bundle, folder, _own(folder, bundle))
        seal_release(folder, bundle)
    elif full:
        raise BundleError(f"release {folder.name}", "no bundle", "a signed bundle's manifest", "compare its artifact")
    else:
        seal_release(folder)
    return signed


def seal_release(folder: Path, bundle: Bundle | None = None) -> None:
    """Seal a release whose every byte has just been checked: the bundle's files, or without one those of its engine.
    Raises BundleError for a link, a path of git or an empty folder among them."""
    write_seal(folder / SEAL, make_seal(folder, _own(folder, bundle)))


def collect(root: Path, releases: Path) -> list[str]:
    """Remove layers and blobs that no release names any more; their digests. Raises BundleError or StateError, and
    removes nothing, when a release's record cannot be read."""
    manifests = set[str]()
    for file in releases.glob(f"*/{RECORD}"):
        manifests |= {str(value) for value in read_json(file, "bundle of a release", _AGAIN).values() if value}
    return Layers(root).gc(manifests)


def _own(folder: Path, bundle: Bundle | None) -> frozenset[str]:
    """Names at the top of a release that are the target's own."""
    ours = {name.partition("/")[0] for name in bundle.members()} if bundle else {ENGINE}
    return frozenset(path.name for path in folder.iterdir() if path.name not in ours)
