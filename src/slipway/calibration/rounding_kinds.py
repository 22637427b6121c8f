"""What an engine's kernels round, by name; `calibration.kernel_rounding` does it.

    y = W round(x)          inputs of a product: bf16, 8-bit blocks, FP8, NVFP4, as the kernel reads them
    round(q), round(k), round(v)          what attention reads: the format of the KV cache
    round(y), round(h)      results of products and of layers, where an engine keeps them in bf16

| name | step | scale |
|---|---|---|
| bf16, fp16 | 8, 11 bits | none |
| q8_0 | 127 steps a side | fp16, one for 32 values along a token: max / 127 (ggml's `quantize_row_q8_0`) |
| fp8 | E4M3 | the checkpoint's static scale; one a token where it has none |
| fp8-token | E4M3 | max of a token / 448 |
| nvfp4 | E2M1 in blocks of 16 with E4M3 scales | the checkpoint's static scale, else that of the tokens read together |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rounding = Literal["none", "bf16", "fp16", "q8_0", "fp8", "fp8-token", "nvfp4"]


@dataclass(frozen=True)
class KernelRounding:
    """What an engine's kernels round: `inputs` of products with weights that are not quantized, `quantized` inputs of
    those with weights that are, `attention` what attention reads, `results` what products and layers hand on, `weights`
    what a weight becomes when it is loaded."""

    inputs: Rounding = "none"
    quantized: Rounding = "none"
    attention: Rounding = "none"
    results: Rounding = "none"
    weights: Rounding = "none"
