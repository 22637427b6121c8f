"""What a bundle says it is: an OCI image manifest and its config, checked by hand, with the files of each layer.

The manifest lists layers by digest and size, with their role and part as annotations; its digest names the bundle. The
config holds architecture and the layers' digests again (`rootfs.diff_ids`: a layer is not compressed), and under
`dev.slipway.members` every file with name, size, mode and mtime. So a tree of files can be checked against the two
documents alone. Fields that Slipway does not know are allowed: registries and later versions add some.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from slipway.agent.bundle.layer_tar import ROOT, Member, check_name, layer_size
from slipway.errors import BundleError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
ROLE, PART, MEMBERS = "dev.slipway.role", "dev.slipway.part", "dev.slipway.members"
LARGEST_DOCUMENT = 4 << 20  # bytes; registries refuse larger manifests
MOST_LAYERS = 120  # of an image that is mounted; overlayfs and docker end at 125 or so
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_WORD = re.compile(r"[a-z][a-z0-9-]{0,63}")
_NEXT = "fetch the bundle again, or promote its release again"


@dataclass(frozen=True)
class Layer:
    """A layer: sha256 in hex, bytes, what it is for (`engine`, `cache`, `document`), which part, and its files."""

    digest: str
    size: int
    role: str
    part: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Bundle:
    """A bundle by its documents. `digest`, `config`: sha256 in hex of the manifest and of the config. `architecture`:
    as OCI names it, `amd64` or `arm64`."""

    digest: str
    config: str
    architecture: str
    layers: tuple[Layer, ...]
    annotations: dict[str, str]

    def members(self) -> dict[str, tuple[Member, Layer]]:
        """Every file, by its path below the tree's root (`engine/serve.json`), with its layer."""
        return {one.name.removeprefix(ROOT): (one, layer) for layer in self.layers for one in layer.members}


def parse_bundle(manifest: bytes, config: bytes) -> Bundle:
    """The bundle of these two documents. Raises BundleError for documents of something else, for a config of another
    manifest, and for files that one file system could not hold side by side."""
    digest = hashlib.sha256(manifest).hexdigest()
    thing = f"manifest {digest[:12]} of a bundle"
    document = json_object(manifest, thing)
    if document.get("mediaType") != MANIFEST_TYPE:
        raise BundleError(thing, f"mediaType {document.get('mediaType')!r:.100}", MANIFEST_TYPE, _NEXT)
    named = descriptor(document.get("config"), CONFIG_TYPE, f"config in {thing}")
    if (named.digest, named.size) != (hashlib.sha256(config).hexdigest(), len(config)):
        raise BundleError(f"config of {thing}", "other bytes than the manifest names", named.digest[:12], _NEXT)
    rows = document.get("layers")
    if not isinstance(rows, list) or not 0 < len(rows) <= MOST_LAYERS:
        raise BundleError(f"layers of {thing}", f"{rows!r:.100}", f"1 to {MOST_LAYERS} layers", _NEXT)
    described = [descriptor(row, LAYER_TYPE, f"layer in {thing}") for row in rows]
    architecture, members = _read_config(json_object(config, f"config of {thing}"), described, thing)
    layers = tuple(_layer(row, files, thing) for row, files in zip(described, members, strict=True))
    _check_names([one.name for layer in layers for one in layer.members], thing)
    return Bundle(digest, named.digest, architecture, layers, _texts(document.get("annotations"), thing))


def check_architecture(bundle: Bundle, machine: str | None = None) -> None:
    """Raise BundleError when the bundle is for other processors than `machine`, by default this one."""
    machine = machine or platform.machine()
    here = ARCHITECTURES.get(machine.lower(), machine)
    if bundle.architecture != here:
        raise BundleError(
            f"bundle {bundle.digest[:12]}",
            f"for architecture {bundle.architecture}",
            f"{here}, this machine's",
            "run the pipeline for this target: caches and programs of another architecture do not run here",
        )


@dataclass(frozen=True)
class Descriptor:
    """How a document of OCI names bytes: sha256 in hex, size, annotations."""

    digest: str
    size: int
    annotations: dict[str, str]


def descriptor(value: Any, media_type: str, thing: str) -> Descriptor:
    """A descriptor of this media type. Raises BundleError for anything else."""
    row = value if isinstance(value, dict) else {}
    match = _DIGEST.fullmatch(str(row.get("digest")))
    size = row.get("size")
    if row.get("mediaType") != media_type or match is None or type(size) is not int or size < 0:
        raise BundleError(thing, f"{value!r:.200}", f"mediaType {media_type}, digest and size", _NEXT)
    return Descriptor(match[1], size, _texts(row.get("annotations"), thing))


def json_object(data: bytes, thing: str) -> dict[str, Any]:
    """JSON that is an object. Raises BundleError for more than 4 MiB, for no JSON and for another value."""
    try:
        document = json.loads(data) if len(data) <= LARGEST_DOCUMENT else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise BundleError(thing, f"{data[:100]!r}, {len(data)} bytes", "a JSON object of at most 4 MiB", _NEXT)
    return document


def _read_config(config: dict[str, Any], layers: list[Descriptor], thing: str) -> tuple[str, list[tuple[Member, ...]]]:
    """Architecture, and the files of each layer."""
    rootfs, rows, architecture = config.get("rootfs"), config.get(MEMBERS), config.get("architecture")
    if not isinstance(architecture, str) or not isinstance(rows, list) or not isinstance(rootfs, dict):
        value = f"architecture {architecture!r:.50}, keys {sorted(config)!r:.200}"
        raise BundleError(f"config of {thing}", value, f"architecture, rootfs and {MEMBERS}: a bundle's", _NEXT)
    digests = [f"sha256:{layer.digest}" for layer in layers]
    if rootfs.get("diff_ids") != digests or len(rows) != len(digests):
        raise BundleError(f"config of {thing}", "rootfs of other layers", "the manifest's, in its order", _NEXT)
    return architecture, [_members(row, thing) for row in rows]


def _members(rows: Any, thing: str) -> tuple[Member, ...]:
    try:
        members = tuple(Member(row["name"], row["size"], row["mode"], row["mtime_ns"]) for row in rows)
    except (TypeError, KeyError):
        raise BundleError(f"config of {thing}", f"{rows!r:.200}", "rows of name, size, mode, mtime_ns", _NEXT) from None
    for one in members:
        numbers = (one.size, one.mode, one.mtime_ns)
        if not isinstance(one.name, str) or any(type(number) is not int or number < 0 for number in numbers):
            raise BundleError(f"config of {thing}", f"{one!r:.200}", "a name and whole numbers", _NEXT)
        check_name(one.name)
    return members


def _layer(row: Descriptor, members: tuple[Member, ...], thing: str) -> Layer:
    """Layer and files fit: order and size follow from the files."""
    role, part = row.annotations.get(ROLE, ""), row.annotations.get(PART, "")
    name = f"layer {row.digest[:12]} of {thing}"
    if not _WORD.fullmatch(role) or not _WORD.fullmatch(part):
        raise BundleError(name, f"role {role!r:.80}, part {part!r:.80}", f"annotations {ROLE} and {PART}", _NEXT)
    if not members or list(members) != sorted(members) or layer_size(members) != row.size:
        raise BundleError(name, f"{row.size} bytes for {len(members)} files", "files that make the layer", _NEXT)
    return Layer(row.digest, row.size, role, part, members)


def _check_names(names: list[str], thing: str) -> None:
    """No two names that a file system without cases holds as one, and no file in the place of a folder."""
    folded: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", name).casefold()
        if key in folded:
            value = f"{name!r:.300} and {folded[key]!r:.300}"
            raise BundleError(f"files of {thing}", value, "names that differ in more than case", _NEXT)
        folded[key] = name
    for key, name in folded.items():
        parts = key.split("/")
        if any("/".join(parts[:depth]) in folded for depth in range(1, len(parts))):
            raise BundleError(f"file {name!r:.300} of {thing}", "below another file", "folders and files apart", _NEXT)


def _texts(value: Any, thing: str) -> dict[str, str]:
    annotations = {} if value is None else value
    if not isinstance(annotations, dict) or not all(isinstance(text, str) for text in annotations.values()):
        raise BundleError(f"annotations of {thing}", f"{value!r:.100}", "names and texts", _NEXT)
    return annotations
