"""Where a pass runs: device, compiled or eager arithmetic, threads."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from slipway.config.quantize import QuantizeConfig
from slipway.errors import ResourceError
from slipway.quantization.compiled import Kernels
from slipway.system.progress import Progress


@dataclass(frozen=True)
class Work:
    """Where and how fast the arithmetic runs."""

    device: torch.device
    kernels: Kernels
    workers: int
    progress: Progress

    @classmethod
    def of(cls, params: QuantizeConfig, nbytes: int, progress: Progress) -> Work:
        """For a pass over `nbytes` of weights. Raises ResourceError when a GPU is asked for and there is none."""
        device = _device(params.device)
        return cls(device, Kernels(device, params.compile, nbytes), workers(params), progress)


def workers(params: QuantizeConfig) -> int:
    """Threads that read, compute and write."""
    return params.workers or min(16, len(os.sched_getaffinity(0)))


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ResourceError(
            "quantize.device", "cuda, but torch sees no GPU", "a GPU", "use --device cpu, or look at `slipway doctor`"
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
