"""Whether FP8 projections that an engine runs as one matmul have one scale, read from a checkpoint's own bytes.

vLLM and TensorRT-LLM take the largest scale of q/k/v, and of gate/up, and round the others' weights to it once more:
the answers move. `quantize.fused_scales=shared` leaves them nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.planning.serving_memory import float_scalars
from slipway.quantization import fusion

_SCALE = "_scale"


@dataclass(frozen=True)
class FusedScales:
    """Groups of fused projections with a scale for each tensor, and how many have scales that differ."""

    groups: int
    differing: int

    @property
    def note(self) -> str | None:
        """What a person should know of it; None where the engine has nothing to requantize."""
        if not self.differing:
            return None
        return (
            f"fp8: {self.differing} of {self.groups} fused layers (q/k/v, gate/up) have scales that differ: their "
            "weights are rounded again, to the largest; quantize.fused_scales=shared leaves nothing to round"
        )


def fused_scales(directory: Path) -> FusedScales:
    """Of the FP8 weights of a model directory. Raises CheckpointError for a damaged shard."""
    scales = float_scalars(directory, f".weight{_SCALE}")
    groups = [group for group in fusion.groups([name.removesuffix(_SCALE) for name in scales], "fused") if group[1:]]
    return FusedScales(len(groups), sum(_differ(group, scales) for group in groups))


def scale_notes(directory: Path, formats: Sequence[str]) -> list[str]:
    """The note on a checkpoint of these formats, where there is one."""
    note = fused_scales(directory).note if "fp8" in formats else None
    return [note] if note else []


def _differ(group: Sequence[str], scales: Mapping[str, float]) -> bool:
    return len({scales[name + _SCALE] for name in group}) > 1
