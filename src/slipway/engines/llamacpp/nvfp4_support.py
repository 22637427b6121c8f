"""Which classes llama.cpp computes in NVFP4: it takes the files of all, and computes garbage with some.

A weight is q * s * g: codes, block scales and one fp32 scalar. GGUF keeps g in a tensor of its own, `X.scale`, that the
graph of every class must multiply by. In llama.cpp 0.3.36 the graphs of most classes pass none to the MLP: outputs are
then larger by 1/g, some thousand, and the log-probabilities NaN (Gemma 2 and 3, Qwen 2 and 2.5-VL, GLM-4-MoE; seen on
tiny models). `tests/lab/engines/test_families.py` holds this list to what a server answers, in both directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from slipway.errors import EngineError

COMPUTED = frozenset(
    {
        "GraniteMoeForCausalLM",  # its experts stay in bf16
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
    }
)
_SCALARS = (".weight_scale_2", ".weight_global_scale")  # ModelOpt's layout, compressed-tensors'


def require_nvfp4_support(config: Mapping[str, Any], tensors: Iterable[str]) -> None:
    """Raise EngineError for a checkpoint with NVFP4 weights (by the names of its tensors) of a class, by its
    config.json, that llama.cpp is not known to compute with."""
    quantized = next((tensor for tensor in tensors if tensor.endswith(_SCALARS)), None)
    if quantized is not None and _class(config) not in COMPUTED:
        raise _left_out(_class(config), quantized[:200])


def require_nvfp4_class(config: Mapping[str, Any]) -> None:
    """The same for a model that is still to be quantized. Raises EngineError."""
    if _class(config) not in COMPUTED:
        raise _left_out(_class(config), "the scalars of its MLP")


def _class(config: Mapping[str, Any]) -> str:
    listed = config.get("architectures")
    return str(listed[0] if isinstance(listed, list) and listed else config.get("model_type"))[:80]


def _left_out(name: str, what: str) -> EngineError:
    return EngineError(
        f"llama.cpp with {name} in NVFP4",
        f"{what} would be left out of the computation",
        f"NVFP4 of one of {', '.join(sorted(COMPUTED))}, or another format",
        "use quantize.format=fp8-dynamic (llama.cpp serves it as bf16), serve the merged model, or another engine.kind",
    )
