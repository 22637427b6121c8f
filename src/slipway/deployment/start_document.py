"""The start plan of a bundle for a target's agent: its serve plan, and what only this machine can say about it.

Short because the agent has the rest (`agent/start_plan.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway.engines.bundle import model_of, read_plan
from slipway.system import openmp

_PARTS = {"argv", "files", "environment", "caches", "alias", "health", "image", "start_s", "stop_s"}


def start_document(bundle: Path, *, here: bool = True) -> dict[str, Any]:
    """What `start.json` of a release holds. `here`: the bundle is served on this machine, so that its CPU is checked
    and its model may lie outside of the bundle.

    Raises EngineError for a bundle that is malformed or made for another CPU, StateError for a damaged manifest.
    """
    plan = read_plan(bundle, here=here)
    document = plan.model_dump(mode="json", include=_PARTS, exclude_none=True)
    document["environment"] = {**openmp.ENVIRONMENT, **plan.environment}
    model = model_of(bundle) if here else bundle
    return {"plan": document, **({} if model.is_relative_to(bundle) else {"model": str(model)})}
