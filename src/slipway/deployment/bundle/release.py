"""A release packed: engine, model, caches and documents in the store's layout, signed, verified, ready to be moved.

<store.root>/bundles/    one OCI image layout for all releases of this store: a layer that two share lies there once
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.agent.bundle.manifest import ARCHITECTURES, Bundle
from slipway.agent.bundle.release import ENGINE, RESERVED
from slipway.agent.bundle.signature import OMS_TYPE, PAYLOAD_TYPE
from slipway.deployment.bundle.files import FILES_DOCUMENT, document_parts, engine_parts, files_part
from slipway.deployment.bundle.oci_layout import FILES_SIGNATURE, SIGNATURES, OciLayout
from slipway.deployment.bundle.sbom import sbom
from slipway.deployment.bundle.signing import Signer
from slipway.engines.bundle import read_plan
from slipway.errors import BundleError
from slipway.store.artifacts import Engine

BUNDLES, SBOM = "bundles", "sbom.json"


@dataclass(frozen=True)
class PackedRelease:
    """A release in a layout. `bundle`: its documents; `signature`, `files_signature`: digests (hex) of the manifests
    that hold them; `blobs`: digest -> bytes of all that a target needs of it; `written`: bytes of the layers that the
    layout did not have."""

    layout: Path
    name: str
    bundle: Bundle
    signature: str
    files_signature: str
    blobs: dict[str, int]
    written: int

    @property
    def bytes(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.bundle.layers)


def pack(
    engine: Engine,
    documents: Mapping[str, str],
    signer: Signer,
    layout: OciLayout,
    *,
    name: str,
    model: str,
    architecture: str,
    keep: int | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> PackedRelease:
    """Put a release into the layout under `name` and sign it.

    `documents`: files of the release by name (card, report, decision; `sbom.json` in place of ours); `model`: the
    registered name; `architecture`: `amd64` or `arm64`, of the machine that serves; `keep`: releases of the layout that
    stay, this one included. Equal releases have equal manifests; only their signatures differ. Raises what
    `engine_parts` and the signer raise, BundleError for a document with a name of the release's own, ResourceError for
    a full disk.
    """
    documents = {SBOM: sbom(engine, model), **documents}
    for reserved in sorted({*RESERVED, FILES_DOCUMENT, ENGINE} & documents.keys()):
        raise BundleError(f"document {reserved}", "a name of the release's own", "another name", "rename it")
    parts, notes = engine_parts(engine)
    for text in notes:
        note(text)
    layers = [layout.add_layer(part) for part in [*parts, *document_parts(documents)]]
    layers.append(layout.add_layer(files_part(row for layer in layers for row in layer.members)))
    annotations = {"dev.slipway.model": model, "dev.slipway.engine": engine.digest}
    bundle, size = layout.add_manifest(layers, architecture, annotations)
    layout.name(name, bundle.digest, size, {}, architecture)
    payload, signature = signer.sign_digest(bundle.digest, model)
    attached = [layout.attach(bundle, SIGNATURES, PAYLOAD_TYPE, payload, signature)]
    files = {path: digest for layer in layers for path, digest in layer.digests.items()}
    attached.append(layout.attach(bundle, FILES_SIGNATURE, OMS_TYPE, signer.sign_files(model, files), {}))
    small = [bundle.digest, bundle.config, *(one for manifest in attached for one in sorted(layout.named(manifest)))]
    blobs = {digest: len(layout.read_blob(digest)) for digest in small}
    blobs |= {layer.digest: layer.size for layer in bundle.layers}
    written = sum(layer.descriptor["size"] for layer in layers if layer.written)
    packed = PackedRelease(layout.path, name, bundle, attached[0], attached[1], blobs, written)
    if keep is not None:
        freed = layout.keep(layout.refs()[-keep:])
        note(f"{freed / 1e6:.1f} MB of older bundles removed from {layout.path}")
    return packed


def architecture_of(engine: Engine) -> str:
    """The architecture that an engine was made for, `amd64` or `arm64`: that of this machine where it holds a program
    built here, else of its stage's serving machine. Raises EngineError for a bundle without a plan."""
    if read_plan(engine.path, here=False).cpu is not None:
        return ARCHITECTURES.get(platform.machine(), platform.machine())
    serving = engine.manifest["provenance"].get("params", {}).get("serving", {})
    arch = serving.get("arch") if isinstance(serving, dict) else None
    return str(arch or "amd64")
