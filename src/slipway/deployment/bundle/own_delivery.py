"""An engine brought to a target of this machine: packed and signed as for any other, its large files linked."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.agent.agent import Agent
from slipway.agent.bundle.manifest import ARCHITECTURES
from slipway.agent.bundle.signature import POLICIES, TRUST, Trust, read_trust, write_trust
from slipway.agent.changes import LOCK_WAIT_S, changing
from slipway.agent.files import disk_full_is_named
from slipway.agent.paths import ENGINE, INDEX
from slipway.agent.records import is_present
from slipway.config.deploy import DeployConfig
from slipway.config.trust import TrustConfig
from slipway.deployment.bundle.delivery import check_probe
from slipway.deployment.bundle.linked_layout import LinkedLayout
from slipway.deployment.bundle.release import architecture_of, pack, ref_of, require_here
from slipway.deployment.bundle.signing import Signer, installed_signer, trust_of
from slipway.errors import BundleError, CheckpointError, StateError
from slipway.store.artifacts import Artifact, Engine, SearchIndex
from slipway.store.manifest import read_manifest

if TYPE_CHECKING:
    from slipway.deployment.target import Document, Note

UNSIGNED = "the release is not signed: model-signing is not installed (extra `sign`)"


def deliver_here(
    engine: Engine,
    params: DeployConfig,
    agent: Agent,
    note: Note,
    *,
    documents: Mapping[str, str],
    model: str,
    index: SearchIndex | None = None,
    wait_s: float = LOCK_WAIT_S,
) -> Document:
    """Bring an engine to the target of `agent`; the digests by which `stage` finds it there. Arguments as of
    `delivery.deliver`.

    Raises CheckpointError for an engine or index whose bytes are not those of its manifest, ConfigError for one whose
    files lie on another machine and for an engine of another architecture (jobs of Slurm run on other machines: not
    there), BundleError for a file that changes meanwhile and where the target trusts another signer, ResourceError for
    a full disk.
    """
    require_here(engine, params.target)
    here = ARCHITECTURES.get(platform.machine(), platform.machine())
    architecture = architecture_of(engine, unknown=here)
    if params.kind == "local":
        check_probe({"architecture": here, "time": time.time()}, architecture, params.target, time.time(), note)
    signer = installed_signer(params.signing, engine.path.parents[1])
    if signer is None:
        note(UNSIGNED)
    _set_up_trust(agent.paths.root, params.trust, signer)
    try:
        return _received(engine, architecture, signer, agent, note, documents, model or params.target, index, wait_s)
    except BundleError as err:  # another command removed layers between packing and the lock, or one was damaged here
        note(f"{err.thing}: {err.value}; packed once more")
        return _received(engine, architecture, signer, agent, note, documents, model or params.target, index, wait_s)


def _received(
    engine: Engine,
    architecture: str,
    signer: Signer | None,
    agent: Agent,
    note: Note,
    documents: Mapping[str, str],
    model: str,
    index: SearchIndex | None,
    wait_s: float,
) -> Document:
    """Pack without the target's lock, which reads every byte; link and take in with it."""
    layout, name = LinkedLayout(agent.paths.root, engine.path.parents[1]), ref_of(engine, index)
    with disk_full_is_named(agent.paths.root):
        packed = pack(
            engine, documents, signer, layout,
            name=name, model=model, architecture=architecture, index=index, whole=True, note=note,
        )  # fmt: skip
        _require_listed(engine, layout.digests, ENGINE)
        if index is not None:
            _require_listed(index, layout.digests, INDEX)
        digest = packed.bundle.digest
        named = {"manifest": digest}
        named |= {"signature": packed.signature, "files_signature": packed.files_signature} if signer else {}
        request = {**named, "wait_s": wait_s, "architecture": architecture}
        with changing(agent, request, f"receipt of bundle {digest[:12]}"):
            copied = layout.adopt(packed.bundle)
            agent.call("receive", request, note)
    for blob in packed.blobs:  # what the target had already
        (layout.blobs / blob).unlink(missing_ok=True)
    note(f"bundle {digest[:12]}: {packed.bytes / 1e6:.1f} MB, {copied / 1e6:.1f} MB of large files copied, not linked")
    return dict(named)


def _set_up_trust(root: Path, config: TrustConfig, signer: Signer | None) -> None:
    """Nobody sets a target of this machine up but its first promotion: it trusts this store's signer from then on, and
    whom the config names. The stricter policy of file and config holds. Raises as `write_trust`, ConfigError for a key
    that is none."""
    first = not is_present(root / TRUST)
    now, wanted = read_trust(root), trust_of(config, signer if first else None)
    trust = Trust(
        wanted.policy if first else max(now.policy, wanted.policy, key=POLICIES.index),
        tuple(dict.fromkeys((*now.keys, *wanted.keys))),
        tuple(dict.fromkeys((*now.roots, *wanted.roots))),
    )
    if trust != now or (first and trust.keys):
        write_trust(root, trust)


def _require_listed(artifact: Artifact, digests: Mapping[str, str], folder: str) -> None:
    """Raise CheckpointError unless the files that were packed below `folder` are those that the artifact's manifest
    lists."""
    again, thing = "delete it and run again: it is made anew", f"{artifact.kind} {artifact.path}"
    try:
        document = read_manifest(artifact.path)
    except StateError as err:
        raise CheckpointError(thing, f"manifest unreadable: {err.value}", "an intact artifact", again) from err
    problem = "" if document["digest"] == artifact.digest else f"digest {document['digest'][:12]}"
    for row in document["files"]:
        actual = digests.get(f"{folder}/{row['path']}")
        if actual != row["sha256"]:
            problem = f"{row['path']} " + ("is missing" if actual is None else "has another sha256 than the manifest")
    if problem:
        raise CheckpointError(thing, problem, f"intact bytes of digest {artifact.digest[:12]}", again)
