"""Container images by digest: reading them from a registry once, and refusing the wrong architecture before a pull.

A tag moves and names several architectures; a digest names one image. `slipway pin` reads, per architecture, the digest
of the image's manifest, and checks that the image's own config says that architecture too: an index can be wrong about
it.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from slipway.agent.image_environment import cuda_version
from slipway.config.image import ImageConfig
from slipway.containers.registry import INDEXES, Document, Registry
from slipway.errors import ConfigError
from slipway.system.files import write_atomic

ARCHITECTURES = ("amd64", "arm64")
_ALIASES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture(name: str) -> str:
    """As registries call it: `x86_64` is `amd64`, `aarch64` is `arm64`."""
    return _ALIASES.get(name, name)


def pinned(image: ImageConfig, arch: str) -> str:
    """`repository@sha256:...` of the image for this architecture. Raises ConfigError when it is not pinned."""
    digest = next((d for a, d in image.digests.items() if a == arch), None)
    if digest is None:
        known = ", ".join(image.digests) or "none"
        raise ConfigError(
            f"image {image.repository}:{image.tag}",
            f"pinned for {known}",
            f"a digest for {arch}",
            "`slipway pin` reads it from the registry",
        )
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ConfigError(
            f"image {image.repository}", digest, "sha256: and 64 hex digits", "`slipway pin` reads it from the registry"
        )
    return f"{image.repository}@{digest}"


def check_before_pull(image: ImageConfig, arch: str) -> str:
    """Ask the registry what the pinned digest is; the CUDA version that the image states, empty without one. Raises
    ConfigError naming both architectures when they differ."""
    reference = pinned(image, arch)
    registry = Registry(image.repository)
    manifest = registry.manifest(reference.partition("@")[2])
    if manifest.media_type in INDEXES:
        raise ConfigError(
            f"image {reference}", "an index of several architectures", f"the image for {arch}", "`slipway pin` reads it"
        )
    config = registry.blob(manifest.body["config"]["digest"])
    _refuse_other(reference, str(config.get("architecture", "unknown")), arch, "in the registry")
    return cuda_version((config.get("config") or {}).get("Env"))


def refuse_other_on_machine(reference: str, arch_there: str, arch: str, host: str) -> None:
    """After the pull: what the engine says the image is."""
    _refuse_other(reference, architecture(arch_there), arch, f"on {host}")


def read_digests(image: ImageConfig) -> dict[str, str]:
    """Architecture -> digest of its image, for amd64 and arm64 as far as the tag has them. Raises ConfigError when the
    index says one architecture and the image another, or the tag has neither.
    """
    registry = Registry(image.repository)
    top = registry.manifest(image.tag)
    if top.media_type not in INDEXES:
        entries = [(_architecture(registry, top), top.digest)]
    else:
        platforms = [(m.get("platform", {}), m["digest"]) for m in top.body["manifests"]]
        entries = [(p.get("architecture", ""), digest) for p, digest in platforms if p.get("os") == "linux"]
    digests: dict[str, str] = {}
    for arch, digest in entries:
        if arch in ARCHITECTURES and arch not in digests:
            _refuse_other(
                f"{image.repository}@{digest}",
                _architecture(registry, registry.manifest(digest)),
                arch,
                "in the registry",
            )
            digests[arch] = digest
    if not digests:
        names = ", ".join(arch for arch, _ in entries) or "none"
        raise ConfigError(
            f"image {image.repository}:{image.tag}", f"for {names}", "amd64 or arm64", "choose another tag"
        )
    return digests


def _architecture(registry: Registry, manifest: Document) -> str:
    return str(registry.blob(manifest.body["config"]["digest"]).get("architecture", "unknown"))


def _refuse_other(reference: str, arch: str, expected: str, where: str) -> None:
    if arch != expected:
        raise ConfigError(
            f"image {reference}",
            f"{arch} {where}",
            f"{expected}, the target's architecture",
            "`slipway pin` reads the right digest, or mend target.arch",
        )


def pin(conf: Path, names: list[str], tag: str | None = None) -> dict[str, dict[str, str]]:
    """Read digests for these images (all of conf/images.yaml when none is named) and write them there, its other text
    kept.

    Returns image -> architecture -> digest. Nothing is written unless every image was read.
    """
    file = conf / "images.yaml"
    text = file.read_text(encoding="utf-8")
    rows = {k: ImageConfig.model_validate(v) for k, v in yaml.safe_load(text).items() if k != "description"}
    for name in names:
        if name not in rows:
            raise ConfigError("image", name, f"one of {', '.join(rows)}", f"add a row to {file}")
    digests = {}
    for name in names or list(rows):
        row = rows[name] if tag is None else rows[name].model_copy(update={"tag": tag})
        digests[name] = read_digests(row)
        text = _written(text, name, row.tag, digests[name])
    write_atomic(file, text)
    return digests


def _written(text: str, name: str, tag: str, digests: dict[str, str]) -> str:
    """`text` with the tag and digests of one row replaced by line; comments and order stay."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith(f"{name}:")), 0) + 1
    end = next((i for i in range(start, len(lines)) if re.match(r"\S", lines[i])), len(lines))
    tag_text = tag if isinstance(yaml.safe_load(tag), str) else f'"{tag}"'  # 1.10 bare would be a number
    row = [re.sub(r"^(  tag:\s*)[^#\s]+", rf"\g<1>{tag_text}", line) for line in lines[start:end]]
    at = next((i for i, line in enumerate(row) if line.startswith("  digests:")), len(row))
    after = next((i for i in range(at + 1, len(row)) if not row[i].startswith("   ")), len(row))
    row[at:after] = ["  digests:", *(f"    {arch}: {digest}" for arch, digest in sorted(digests.items()))]
    written = "\n".join([*lines[:start], *row, *lines[end:]]) + "\n"
    if _row(written, name) != {**_row(text, name), "tag": tag, "digests": digests}:
        raise ConfigError(
            f"row {name} of conf/images.yaml",
            "not one key a line",
            "one key a line",
            f"write its digests by hand: {digests}",
        )
    return written


def _row(text: str, name: str) -> dict[str, object]:
    try:
        return dict(yaml.safe_load(text)[name])
    except yaml.YAMLError:
        return {}
