"""What an engine is valid for beside its inputs and params: the CPU it is compiled for, or the machine that serves it.

Short because the stage's key asks for it without the rest of an engine's code.
"""

from __future__ import annotations

import platform

from slipway.config.engine import EngineConfig
from slipway.config.target import LocalRunConfig, TargetConfig
from slipway.engines.machine_facts import python_facts
from slipway.system.processor import cpu_digest


def engine_fingerprint(params: EngineConfig, serving: TargetConfig) -> dict[str, str]:
    """What goes into the stage key; needs no torch. The embedded engine is compiled for this CPU. Another engine in a
    Python of this machine is what the probe says of it: an update of driver or torch makes the bundle again. In an
    image or on another machine only its name is known here, the rest is in params (image digest) and compared at each
    start (`engines/bundle_key.py`).

    Raises EngineError when the engine's Python does not answer.
    """
    if params.kind == "llama.cpp":
        engine = f"{params.kind} {params.package} {params.version}"
        return {"arch": platform.machine(), "cpu": cpu_digest(), "engine": engine}
    probed = {} if serving.usable_gb is None else {"usable_gb": f"{serving.usable_gb:g}"}  # GPUs are chosen by it
    if params.python is None or not isinstance(serving.runner, LocalRunConfig):
        return {"engine": params.kind, **probed}
    # no other engine runs in a Python of its own (config/engine.py)
    return {"engine": params.kind, **probed, **{f"machine_{k}": v for k, v in python_facts("vllm", params.python)}}
