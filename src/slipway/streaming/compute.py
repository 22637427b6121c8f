"""Where a pass runs: device, compiled or eager arithmetic, threads.

Threads, unless `quantize.workers` names a number: on a GPU eight for a model up to `SMALL_MODEL` bytes, else four. One
thread at a time launches its kernels (`Kernels.turn`), so the others only read, copy and write beside it: more of them
wait for that turn, each with a unit and page-locked buffers of its own. Measured on an H100 with an 8B model (16 GB),
whole process: 4 threads 12.0 s and 2.8 GB of GPU memory, 8 threads 10.4 s and 4.1 GB, 16 threads 11.4 s and 6.4 GB. A
thread's unit grows with the model's widest matrix, so that a 70B gets four. On a CPU every thread computes: one per
core that this process may use, up to sixteen.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from slipway.config.quantize import QuantizeConfig
from slipway.errors import ResourceError
from slipway.quantization.compiled import Kernels
from slipway.system.progress import Progress

GPU_WORKERS, GPU_WORKERS_OF_LARGE, MOST_CPU_WORKERS = 8, 4, 16
SMALL_MODEL = 40e9


@dataclass(frozen=True)
class Compute:
    """Where and how fast the arithmetic runs."""

    device: torch.device
    kernels: Kernels
    workers: int
    progress: Progress

    @classmethod
    def of(cls, params: QuantizeConfig, nbytes: int, progress: Progress) -> Compute:
        """For a pass over `nbytes` of weights. Raises ResourceError when a GPU is asked for and there is none."""
        device = _device(params.device)
        return cls(device, Kernels(device, params.compile, nbytes), workers(params, device, nbytes), progress)


def workers(params: QuantizeConfig, device: torch.device, nbytes: int) -> int:
    """Number of threads that read, compute and write `nbytes` of weights: `params.workers`, or the default of `device`,
    at most a core each."""
    on_a_gpu = GPU_WORKERS if nbytes <= SMALL_MODEL else GPU_WORKERS_OF_LARGE
    most = on_a_gpu if device.type == "cuda" else MOST_CPU_WORKERS
    return params.workers or min(most, len(os.sched_getaffinity(0)))


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ResourceError(
            "quantize.device", "cuda, but torch sees no GPU", "a GPU", "use --device cpu, or look at `slipway doctor`"
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
