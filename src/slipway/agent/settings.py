"""Settings of a target as its last change was given them: `target.json`, so that a boot needs no orchestrator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.agent.files import disk_full_is_named, write_atomic
from slipway.agent.paths import TargetPaths
from slipway.agent.records import Fields, is_present, read_json
from slipway.errors import ConfigError

FILE = "target.json"
FIRST_PORT, LAST_PORT = 8091, 8099
RUNTIMES = ("docker", "podman")
_MEND = "delete it: the next promotion writes it again"


@dataclass(frozen=True)
class Settings:
    """`host` and `ports` (first and last): where engines listen. `start_timeout_s`: longest wait for an engine's
    health, null: the plan's own, or three times its longest measured start if that is longer. `keep_releases`: on disk,
    the serving one included. `runtime`: which program runs engines in containers; empty: engines are processes.
    `proxy`: of the proxy before the engines; empty: none. `way`: `beside`, `held` where memory holds one engine only,
    `auto` by what is free less `reserve_gb`. `slurm`: engines are service jobs (`engine_slurm.py`); empty: of this
    machine."""

    host: str = "127.0.0.1"
    ports: tuple[int, int] = (FIRST_PORT, LAST_PORT)
    start_timeout_s: float | None = None
    stop_grace_s: float = 10.0
    keep_releases: int = 3
    runtime: str = ""
    way: str = "beside"
    reserve_gb: float = 8.0
    proxy: Mapping[str, Any] = field(default_factory=dict)
    slurm: Mapping[str, Any] = field(default_factory=dict)


def parse_settings(document: Mapping[str, Any], thing: str) -> Settings:
    """Settings out of a JSON object; a key that is absent has its default. Raises StateError naming the key that does
    not fit, ConfigError for one that this version does not know."""
    if unknown := sorted(set(document) - set(Settings.__dataclass_fields__)):
        known = ", ".join(Settings.__dataclass_fields__)
        raise ConfigError(thing, f"key {unknown[0]}", f"keys among {known}", "bring agent and orchestrator together")
    fields = Fields(document, thing, _MEND)
    ports = document.get("ports", [FIRST_PORT, LAST_PORT])
    if not (isinstance(ports, (list, tuple)) and len(ports) == 2 and all(_is_port(port) for port in ports)):
        raise ConfigError(thing, f"ports: {str(ports)[:100]}", "first and last TCP port", _MEND)
    return Settings(
        host=fields.text("host", Settings.host),
        ports=(ports[0], ports[1]),
        start_timeout_s=fields.number("start_timeout_s") if document.get("start_timeout_s") is not None else None,
        stop_grace_s=fields.number("stop_grace_s", Settings.stop_grace_s),
        keep_releases=max(2, fields.integer("keep_releases", Settings.keep_releases)),
        runtime=fields.text("runtime", Settings.runtime, pattern="|".join(("", *RUNTIMES))),
        way=fields.text("way", Settings.way, pattern="beside|held|auto"),
        reserve_gb=fields.number("reserve_gb", Settings.reserve_gb),
        proxy=fields.document("proxy", {}),
        slurm=fields.document("slurm", {}),
    )


def read_settings(paths: TargetPaths) -> Settings:
    """What was given last; the defaults before the first change. Raises StateError for a damaged file."""
    file = paths.root / FILE
    if not is_present(file):
        return Settings()
    return parse_settings(read_json(file, "settings of the target", _MEND), f"settings of the target: {file}")


def write_settings(paths: TargetPaths, document: Mapping[str, Any]) -> Settings:
    """Check and keep these settings for changes and boots to come. Raises as `parse_settings`, ResourceError when the
    disk is full."""
    settings = parse_settings(document, "settings of the target")
    with disk_full_is_named(paths.root):
        write_atomic(paths.root / FILE, json.dumps(document, indent=1, sort_keys=True) + "\n")
    return settings


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 16
