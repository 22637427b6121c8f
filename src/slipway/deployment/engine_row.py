"""Whether an engine was made for the row that a target serves on; `compatibility.py` has the rules.

An engine goes to another machine only if it was made, evaluated and gated for that machine's row of `conf/targets/`.
"""

from __future__ import annotations

from pydantic import ValidationError

from slipway.config.deploy import DeployConfig
from slipway.config.target import TargetConfig
from slipway.deployment.compatibility import require_compatible
from slipway.engines.bundle import read_plan
from slipway.engines.warm_cache import read_manifest
from slipway.errors import StateError
from slipway.store.artifacts import Engine

HERE = "local"  # the row of this machine, which a config has until another is chosen


def require_row(engine: Engine, serving: TargetConfig, deploy: DeployConfig) -> None:
    """Raises ConfigError naming every difference, what runs again and how, unless the engine was made for the row that
    `deploy` serves on. `serving`: that row; where nobody chose one, and on this machine itself, the target's own checks
    decide (architecture, CPU, GPU as probed)."""
    if deploy.kind == "local" or serving.name == HERE:
        return
    plan, caches = read_plan(engine.path, here=False), read_manifest(engine.path)
    require_compatible(plan, source_row(engine, serving), serving, deploy.target, caches.key if caches else None)


def source_row(engine: Engine, serving: TargetConfig) -> TargetConfig:
    """The row that an engine was made for, as its stage recorded it; `serving` for one that recorded none. Raises
    StateError for a record that cannot be read."""
    recorded = engine.manifest["provenance"].get("params", {}).get("serving")
    if not isinstance(recorded, dict):
        return serving
    try:
        return TargetConfig.model_validate(recorded)
    except ValidationError as err:
        message = str(err.errors()[0]["msg"])
        raise StateError(f"manifest of {engine.path}, serving", message, "a row of conf/targets", "run again") from err
