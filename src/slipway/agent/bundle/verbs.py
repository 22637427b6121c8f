"""The verbs about bundles: `missing`, `receive`, `verify`. What they do is `bundle_release`'s."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.agent.bundle.layers import HEX, Layers
from slipway.agent.bundle.release import SEAL, keep_received, signed_by, verify_release
from slipway.agent.bundle.signature import read_files_signature
from slipway.agent.bundle.tree import read_seal
from slipway.agent.changes import changing
from slipway.agent.files import disk_full_is_named
from slipway.agent.records import Fields

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note

_NEXT = "bring agent and orchestrator to one version"


def missing(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (every verb has this shape)
    """The verb `missing`: `{"digests": [hex...]}` -> `{"missing": [hex...]}`, those that must be sent."""
    digests = Fields(document, "verb missing", _NEXT).texts("digests")
    return {"missing": Layers(agent.paths.root).missing(digests)}


def collect(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (every verb has this shape)
    """The verb `collect`: blobs that lie in a folder of this machine by their digests are copied into `incoming`.

    `{"folder": path, "digests": [hex...]}` -> `{"bytes", "absent": [hex...], "why"}`. What they hold is checked when
    they are received, as of blobs that a transport wrote. Raises ResourceError for a full disk."""
    fields = Fields(document, "verb collect", _NEXT)
    folder, layers = Path(fields.text("folder")), Layers(agent.paths.root)
    nbytes, absent, why = 0, [], ""
    layers.incoming.mkdir(parents=True, exist_ok=True)
    with disk_full_is_named(agent.paths.root):
        for digest in layers.missing(fields.texts("digests")):
            try:
                nbytes += layers.collect(folder / digest, digest)
            except (FileNotFoundError, PermissionError) as err:
                absent.append(digest)
                why = err.strerror or str(err)
    return {"bytes": nbytes, "absent": absent, "why": why}


def receive(agent: Agent, document: Document, note: Note) -> Document:
    """The verb `receive`: take in a bundle that was sent, by digest; its signature is looked at before its layers.

    `{"manifest", "signature", "files_signature"}` (hex; the last two may be absent) -> `{"bundle", "signed", "bytes"}`.
    `architecture`: of the machine that serves, where it is not this one, as under Slurm.
    Raises BundleError for what is damaged, for another architecture, and where the target's trust says `enforce`, for
    a bundle that nobody trusted signed; ResourceError for a full disk."""
    fields = Fields(document, "verb receive", _NEXT)
    manifest, signature = fields.text("manifest", pattern=HEX.pattern), fields.text("signature", "")
    layers = Layers(agent.paths.root)
    with changing(agent, document, f"receipt of bundle {manifest[:12]}"), disk_full_is_named(agent.paths.root):
        signed = signed_by(agent.paths.root, layers, manifest, signature)
        note(signed)
        if files_signature := fields.text("files_signature", ""):
            read_files_signature(files_signature, layers.receive_blob)
        bundle = layers.receive(manifest, machine=fields.text("architecture", "") or None)
        keep_received(agent.paths.root, document)
    return {"bundle": manifest, "signed": signed, "bytes": sum(layer.size for layer in bundle.layers)}


def verify(agent: Agent, document: Document, note: Note) -> Document:
    """The verb `verify`: `{"release": name, "full": true}` -> `{"release", "files", "signed", "seconds"}`.

    `full`: every byte; else against the seal, and in full where that does not fit. Raises BundleError for what
    differs."""
    fields = Fields(document, "verb verify", _NEXT)
    name, full = fields.text("release"), fields.flag("full", True)
    folder, begin = agent.paths.release(name), time.monotonic()
    with changing(agent, document, f"check of {name}"):
        signed = verify_release(agent.paths.root, folder, full=full)
    note(f"{name}: {signed}")
    files = len(read_seal(folder / SEAL) or {})
    return {"release": name, "files": files, "signed": signed, "seconds": round(time.monotonic() - begin, 3)}
