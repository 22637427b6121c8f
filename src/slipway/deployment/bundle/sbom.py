"""What a release is made of, as a CycloneDX 1.6 document: models, data, the engine's program or image, packages.

Equal releases give equal documents: no time and no random number is in it. Digests of artifacts are those of their
manifests (sha256 over paths and digests of all files), which the document says; packages are the installed ones that
Slipway's extras name.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
import uuid
from contextlib import suppress
from typing import Any

from packaging.utils import canonicalize_name

from slipway import __version__
from slipway.engines.bundle import read_plan
from slipway.engines.driver import ServePlan
from slipway.store.artifacts import Artifact, Engine
from slipway.store.lineage import Ancestor, lineage
from slipway.system.installed import VERSION, extras

_DATA = ("dataset", "evaluation", "reference", "verdict", "corpus", "chunks", "vectors", "index")
_KINDS = {"engine": "application", **dict.fromkeys(_DATA, "data")}
_IMAGE = re.compile(r"(?P<name>.+)@sha256:(?P<digest>[0-9a-f]{64})")
_DIGEST_OF = "slipway:digest"


def sbom(engine: Engine, model: str, *artifacts: Artifact) -> str:
    """The document of a release of `engine` under the registered name `model`, with what it and the other artifacts
    (verdict, data) were made from. JSON, one spelling."""
    plan = read_plan(engine.path, here=False)
    rows = [_artifact(one) for one in lineage(engine, *artifacts) if one.digest != engine.digest]
    components = [*rows, _program(plan), *_packages()]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'slipway:{engine.digest}')}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "slipway", "version": __version__}]},
            "component": {
                "type": "machine-learning-model",
                "bom-ref": f"engine:{engine.digest}",
                "name": model,
                "version": engine.digest[:12],
                **_hashes(engine.digest),
            },
        },
        "components": components,
        "dependencies": [
            {"ref": f"engine:{engine.digest}", "dependsOn": sorted(row["bom-ref"] for row in components)},
        ],
    }
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _artifact(ancestor: Ancestor) -> dict[str, Any]:
    kind = _KINDS.get(ancestor.kind, "machine-learning-model")
    return {
        "type": kind,
        "bom-ref": f"{ancestor.kind}:{ancestor.digest}",
        "name": ancestor.kind,
        "version": ancestor.digest[:12],
        "description": f"{ancestor.role}, made by stage {ancestor.stage or 'unknown'}",
        **_hashes(ancestor.digest),
    }


def _program(plan: ServePlan) -> dict[str, Any]:
    """The container image by digest, or the program built on this machine."""
    match = _IMAGE.fullmatch(plan.image or "")
    if match:
        ref = f"image:{match['digest']}"
        hashes = [{"alg": "SHA-256", "content": match["digest"]}]
        return {"type": "container", "bom-ref": ref, "name": match["name"], "version": plan.build, "hashes": hashes}
    version = plan.build or plan.contract or "unknown"
    return {"type": "application", "bom-ref": f"program:{plan.kind}", "name": plan.kind, "version": version}


def _packages() -> list[dict[str, Any]]:
    """Installed packages of the base install and every extra, each once, by name."""
    rows = []
    for name, version in _installed():
        purl = f"pkg:pypi/{name}@{version}"
        rows.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return rows


@functools.cache
def _installed() -> tuple[tuple[str, str], ...]:
    """Name and version; once a process, as the metadata of seventy packages takes a tenth of a second to read."""
    names = {canonicalize_name(one.name) for requirements in extras().values() for one in requirements}
    versions = []
    for name in sorted(names):
        with suppress(importlib.metadata.PackageNotFoundError):  # an extra that is not installed made nothing here
            versions.append((name, VERSION(name)))
    return tuple(versions)


def _hashes(digest: str) -> dict[str, Any]:
    meaning = "sha256 over paths and digests of the artifact's files"
    return {
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "properties": [{"name": _DIGEST_OF, "value": meaning}],
    }
