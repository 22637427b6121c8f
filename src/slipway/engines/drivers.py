"""Which driver an engine's kind names. Short because a new engine is a row here; each is imported when it is asked
for."""

from __future__ import annotations

from slipway.engines.driver import Driver
from slipway.errors import ConfigError

KINDS = ("llama.cpp", "vllm", "trtllm", "trtllm-engine")


def driver_for(kind: str) -> Driver:
    """The driver of `engine.kind`. Raises ConfigError for a kind that no driver serves."""
    if kind == "llama.cpp":
        from slipway.engines.llamacpp.driver import DRIVER as LLAMACPP

        return LLAMACPP
    if kind == "vllm":
        from slipway.engines.vllm.driver import DRIVER as VLLM

        return VLLM
    if kind == "trtllm":
        from slipway.engines.trtllm.driver import DRIVER as TRTLLM

        return TRTLLM
    if kind == "trtllm-engine":
        from slipway.engines.trtllm_build.driver import DRIVER as TRTLLM_BUILD

        return TRTLLM_BUILD
    raise ConfigError("engine.kind", kind, f"an engine with a driver: {', '.join(KINDS)}", "see conf/engine/")
