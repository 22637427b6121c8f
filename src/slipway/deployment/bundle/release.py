"""A release packed: engine, model, caches, index and documents in the store's layout, signed, ready to be moved.

<store.root>/bundles/    one OCI image layout for all releases of this store: a layer that two share lies there once
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slipway.agent.bundle.manifest import ARCHITECTURES, Bundle
from slipway.agent.bundle.release import RESERVED
from slipway.agent.bundle.signature import OMS_TYPE, PAYLOAD_TYPE
from slipway.agent.paths import ENGINE, INDEX
from slipway.deployment.bundle.files import FILES_DOCUMENT, document_parts, engine_parts, files_part, index_parts
from slipway.deployment.bundle.oci_layout import FILES_SIGNATURE, SIGNATURES, OciLayout, PackedLayer
from slipway.deployment.bundle.sbom import sbom
from slipway.deployment.bundle.signing import Signer
from slipway.engines.bundle import read_plan
from slipway.errors import BundleError, ConfigError, SlipwayError
from slipway.pipeline.remote_machine import key_there, machine_of
from slipway.store.artifacts import Artifact, Engine, SearchIndex
from slipway.store.placed import placed

BUNDLES, SBOM = "bundles", "sbom.json"


@dataclass(frozen=True)
class PackedRelease:
    """A release in a layout. `bundle`: its documents; `signature`, `files_signature`: digests (hex) of the manifests
    that hold them, empty where nobody signed; `blobs`: digest -> bytes of all that a target needs of it; `written`:
    bytes of the layers that the layout did not have; `elsewhere`: where the layers lie that are not in this layout,
    `address`, folder of blobs, and the claim by which they stay there until it is released."""

    layout: Path
    name: str
    bundle: Bundle
    signature: str
    files_signature: str
    blobs: dict[str, int]
    written: int
    elsewhere: tuple[str, str, str] | None = None

    @property
    def bytes(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.bundle.layers)


def pack(
    engine: Engine,
    documents: Mapping[str, str],
    signer: Signer | None,
    layout: OciLayout,
    *,
    name: str,
    model: str,
    architecture: str,
    index: SearchIndex | None = None,
    keep: int | None = None,
    whole: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> PackedRelease:
    """Put a release into the layout under `name` and sign it, where there is a signer.

    `documents`: files of the release by name (card, report, decision; `sbom.json` in place of ours); `model`: the
    registered name; `architecture`: `amd64` or `arm64`, of the machine that serves; `index`: what the release is
    searched with; `keep`: releases of the layout that stay, this one included; `whole`: weights keep their files. Equal
    releases have equal manifests; only their signatures differ. Raises what `engine_parts`, `index_parts` and the
    signer raise, BundleError for a document with a name of the release's own, ConfigError for an index whose files lie
    on another machine, ResourceError for a full disk.
    """
    if index is not None:
        require_here(index, model)
    documents = {SBOM: sbom(engine, model, *([index] if index else [])), **documents}
    for reserved in sorted({*RESERVED, FILES_DOCUMENT, ENGINE, INDEX} & documents.keys()):
        raise BundleError(f"document {reserved}", "a name of the release's own", "another name", "rename it")
    layers, elsewhere = _engine_layers(engine, layout, note, whole=whole)
    layers += [layout.add_layer(part) for part in (*(index_parts(index) if index else ()), *document_parts(documents))]
    layers.append(layout.add_layer(files_part(row for layer in layers for row in layer.members)))
    annotations = {"dev.slipway.model": model, "dev.slipway.engine": engine.digest}
    annotations |= {"dev.slipway.index": index.digest} if index else {}
    bundle, size = layout.add_manifest(layers, architecture, annotations)
    layout.name(name, bundle.digest, size, {}, architecture)
    attached = []
    if signer is not None:
        payload, signature = signer.sign_digest(bundle.digest, model)
        attached.append(layout.attach(bundle, SIGNATURES, PAYLOAD_TYPE, payload, signature))
        files = {path: digest for layer in layers for path, digest in layer.digests.items()}
        attached.append(layout.attach(bundle, FILES_SIGNATURE, OMS_TYPE, signer.sign_files(model, files), {}))
    small = [bundle.digest, bundle.config, *(one for manifest in attached for one in sorted(layout.named(manifest)))]
    blobs = {digest: len(layout.read_blob(digest)) for digest in small}
    blobs |= {layer.digest: layer.size for layer in bundle.layers}
    written = sum(layer.descriptor["size"] for layer in layers if layer.written)
    manifest, files_manifest = attached or ("", "")
    packed = PackedRelease(layout.path, name, bundle, manifest, files_manifest, blobs, written, elsewhere)
    if keep is not None:
        freed = layout.keep(layout.refs()[-keep:])
        note(f"{freed / 1e6:.1f} MB of older bundles removed from {layout.path}")
    return packed


def ref_of(engine: Engine, index: SearchIndex | None = None) -> str:
    """The name of a release in a layout: its engine's first digits, and those of its index, where it carries one."""
    return f"{engine.digest[:12]}-{index.digest[:12]}" if index else engine.digest[:12]


def release_claim(engine: Engine, packed: PackedRelease) -> None:
    """Tell the machine that has the layers of a release that its delivery ended; one that does not answer knows by the
    lease."""
    there = placed(engine.path)
    if packed.elsewhere and there:
        with suppress(SlipwayError):
            machine_of(there).ask("delivered", {"claim": packed.elsewhere[2]})


def require_here(artifact: Artifact, target: str) -> None:
    """Raise ConfigError for an engine or index whose files lie on another machine: the target gets them from here."""
    there = placed(artifact.path)
    if there is not None:
        raise ConfigError(
            f"{artifact.kind} {artifact.digest[:12]} for target {target}",
            f"its files lie on {there.address} only",
            "a target on that machine (deploy.kind=spark), or the files here",
            "promote there; or `slipway run` without remote.host, which makes or brings what it needs",
        )


def _engine_layers(
    engine: Engine, layout: OciLayout, note: Callable[[str], None], *, whole: bool
) -> tuple[list[PackedLayer], tuple[str, str, str] | None]:
    """The engine's layers in the layout; of an engine whose files lie on another machine, in the layout there, and
    where that is: address, and folder of its blobs."""
    there = placed(engine.path)
    if there is None:
        parts, notes = engine_parts(engine, whole=whole)
        layers, elsewhere = [layout.add_layer(part) for part in parts], None
    else:
        packed = machine_of(there).ask("layers", {"key": key_there(engine)})
        layers, notes = [PackedLayer(**row) for row in packed["layers"]], packed["notes"]
        elsewhere = (there.address, packed["blobs"], packed["claim"])
        note(f"packed on {there.address}, where the engine's files lie")
    for text in notes:
        note(text)
    return layers, elsewhere


def architecture_of(engine: Engine, unknown: str = "amd64") -> str:
    """The architecture that an engine was made for, `amd64` or `arm64`: that of the machine that made it where it holds
    a program built there, else of its stage's serving machine, `unknown` where that was not recorded. Raises
    EngineError for a bundle without a plan."""
    provenance = engine.manifest["provenance"]
    if read_plan(engine.path, here=False).cpu is not None:
        machine = str(provenance.get("arch") or platform.machine())
        return ARCHITECTURES.get(machine, machine)
    serving = provenance.get("params", {}).get("serving", {})
    arch = serving.get("arch") if isinstance(serving, dict) else None
    return str(arch or unknown)
