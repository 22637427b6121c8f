"""A start from a bundle's caches: the key document of what is about to start, and the copy that it gets.

The weights are known by the digest of the checkpoint that the bundle was made from, the machine by a probe where the
engine runs. A bundle without caches costs neither.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from slipway.engines.bundle import model_of
from slipway.engines.bundle_key import KeyDocument, Miss, key_document
from slipway.engines.cache_space import start_cache
from slipway.engines.driver import ServePlan
from slipway.engines.machine_facts import UNKNOWN, MachineFacts, facts_through, local_facts
from slipway.engines.serving import Service
from slipway.engines.warm_cache import FOLDER, fill
from slipway.runners.choose import runner_for
from slipway.store.manifest import MANIFEST, read_manifest
from slipway.system.json_files import is_present, read_json

Note = Callable[[str], object]
QUANTIZATION_FILES = {"config.json": "quantization_config", "hf_quant_config.json": "quantization"}


@dataclass
class WarmFill:
    """Fills a start's empty cache folder from its bundle, or leaves it empty and notes why. `reasons`: of the last
    start."""

    key: KeyDocument
    note: Note
    reasons: list[Miss] = field(default_factory=list)

    def __call__(self, plan: ServePlan, bundle: Path, folder: Path) -> None:
        """Copy `bundle`'s caches into `folder`. Raises ResourceError when the disk is full."""
        self.reasons = fill(bundle, folder, self.key)
        if self.reasons:
            self.note(f"{plan.kind} starts cold: {'; '.join(str(reason) for reason in self.reasons)}"[:2000])


def with_own_cache(service: Service, cache_dir: str | None, limit_bytes: int) -> Service:
    """The service with its caches below `cache_dir`, where one is named and the engine has caches. Raises as
    `cache_space.start_cache`."""
    if cache_dir is None or not service.plan.caches:
        return service
    return replace(service, cache=start_cache(Path(cache_dir).expanduser(), service.work, limit_bytes))


def warmed(service: Service, note: Note) -> Service:
    """The service with its bundle's caches, where it has any. Raises EngineError when the machine's facts cannot be
    asked, StateError for a damaged manifest of the bundle, and what the machine's runner raises."""
    if not service.plan.caches or not (service.bundle / FOLDER).is_dir():
        return service
    return replace(service, fill_cache=WarmFill(start_key(service, weights_digest(service.bundle)), note))


def start_key(service: Service, weights: str) -> KeyDocument:
    """The key document of a start of `service`. `weights`: digest of its checkpoint. Raises as `warmed`."""
    model = service.model or model_of(service.bundle)
    return key_document(service.plan, facts_of(service), weights, quantization_config(model))


def weights_digest(bundle: Path) -> str:
    """Digest of the checkpoint that a bundle was made from; unknown where no manifest says so."""
    inputs = read_manifest(bundle).get("provenance", {}).get("inputs", {}) if is_present(bundle / MANIFEST) else {}
    return str(inputs["checkpoint"]["digest"]) if "checkpoint" in inputs else UNKNOWN


def quantization_config(model: Path) -> dict[str, object] | None:
    """What a checkpoint says of its quantization, by file; None where it says nothing. Raises StateError for a file
    that is no JSON object."""
    mend = "make the checkpoint again"
    documents = {
        name: read_json(model / name, "config of a checkpoint", mend).get(key)
        for name, key in QUANTIZATION_FILES.items()
        if is_present(model / name)
    }
    stated = {name: value for name, value in documents.items() if value}
    return stated or None


def facts_of(service: Service) -> MachineFacts:
    """Facts of the machine and of the image or Python that the service runs in. Raises as `warmed`."""
    plan = service.plan
    if service.is_local:
        return local_facts(plan)
    python = plan.argv[0] if Path(plan.argv[0]).name.startswith("python") else "python3"
    name = f"probe-{secrets.token_hex(6)}"
    runner = runner_for(service.machine, service.image())
    return facts_through(runner, plan.kind, service.work / "probe", name, python, max(1, service.machine.gpus))
