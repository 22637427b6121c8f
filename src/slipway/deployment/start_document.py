"""The start plan of a bundle for a target's agent: its serve plan, and what only this machine can say about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway.engines.boots import Boot
from slipway.engines.bundle import model_of, read_plan
from slipway.engines.driver import KEY_VARIABLES, TLS_OPTIONS
from slipway.system import openmp
from slipway.system.json_files import as_model, is_present, read_json_list

BOOTS = "boots.json"

_PARTS = {"argv", "files", "environment", "caches", "alias", "health", "image", "start_s", "stop_s"}


def start_document(bundle: Path, *, here: bool = True) -> dict[str, Any]:
    """What `start.json` of a release holds. `here`: the bundle is served on this machine, so that its CPU is checked
    and its model may lie outside of the bundle.

    Raises EngineError for a bundle that is malformed or made for another CPU, StateError for a damaged manifest or
    record of its starts.
    """
    plan = read_plan(bundle, here=here)
    document = plan.model_dump(mode="json", include=_PARTS, exclude_none=True)
    document["environment"] = {**openmp.ENVIRONMENT, **plan.environment}
    document["key_variables"] = [KEY_VARIABLES[plan.kind]] if plan.kind in KEY_VARIABLES else []
    document["tls_options"] = list(TLS_OPTIONS.get(plan.kind, ()))
    start: dict[str, Any] = {"plan": document}
    if seconds := measured_start(bundle):
        start["measured_start_s"] = seconds
    model = model_of(bundle) if here else bundle
    return start if model.is_relative_to(bundle) else {**start, "model": str(model)}


def measured_start(bundle: Path) -> float | None:
    """The longest start that was measured when the bundle was made, seconds; null for one that measured none."""
    file = bundle / BOOTS
    if not is_present(file):
        return None
    rows = read_json_list(file, "measured starts", "run the stage engine again")
    boots = [as_model(Boot, row, f"measured starts: {file}", "run the stage engine again") for row in rows]
    return max((boot.ready_s for boot in boots), default=None)
