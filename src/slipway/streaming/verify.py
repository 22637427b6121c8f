"""Bytes on disk held against the labels of their formats."""

from __future__ import annotations

from slipway.errors import CheckpointError
from slipway.quantization import stacked_experts
from slipway.quantization.fusion import module
from slipway.quantization.layouts import Layout
from slipway.streaming.tensor_plan import Plan
from slipway.weights.shards import TensorSource

_SCALARS = {"scalar", "input"}


def check_bits(written: TensorSource, source: TensorSource, plan: Plan, layout: Layout) -> float:
    """Average bits on disk per quantized parameter, block scales included.

    Raises CheckpointError when the bytes are not what the formats' labels say, tensor by tensor.
    """
    bits = parameters = 0.0
    for name, fmt in plan.formats.items():
        info = stacked_experts.as_rows(source.info(name))
        stored = [
            written.info(place.name)
            for role, place in layout.places(module(name), fmt, info).items()
            if role not in _SCALARS
        ]
        stored_bits, channels = (
            8 * sum(t.nbytes for t in stored),
            32 * info.numel / info.shape[-1] if fmt.name == "fp8-dynamic" else 0,
        )
        if abs(stored_bits - channels - fmt.bits * info.numel) > 0.01 * info.numel:
            raise CheckpointError(
                f"tensor {name}, labelled {fmt.name}",
                f"{stored_bits / info.numel:.3f} bits per parameter",
                f"{fmt.bits}",
                "report this: the label and the bytes disagree",
            )
        bits, parameters = bits + stored_bits, parameters + info.numel
    return bits / parameters if parameters else 0.0
