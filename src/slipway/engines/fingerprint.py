"""What an engine is valid for: CPU, compiler, engine version.

Short because the stage's key asks for it without the rest of an engine's code.
"""

from __future__ import annotations

import platform

from slipway.config.engine import EngineConfig
from slipway.system.processor import cpu_digest


def engine_fingerprint(params: EngineConfig) -> dict[str, str]:
    """What, beside inputs and params, an engine is valid for; it goes into the stage key. Cheap, needs no torch."""
    return {
        "arch": platform.machine(),
        "cpu": cpu_digest(),
        "engine": f"{params.kind} {params.package} {params.version}",
    }
