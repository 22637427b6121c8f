"""Layouts: what a format's numbers are called on disk, and the documents that tell a runtime.

| role | modelopt | compressed-tensors |
|---|---|---|
| weight, 4 bits | `weight` U8 [O, I/2] | `weight_packed` U8 [O, I/2] |
| weight, 8 bits | `weight` F8_E4M3 [O, I] | the same |
| scale of blocks | `weight_scale` [O, I/block] | the same |
| scale of channels | `weight_scale` F32 [O] | `weight_scale` F32 [O, 1] |
| scalar of NVFP4 | `weight_scale_2` F32 [] = g | `weight_global_scale` F32 [1] = 1 / g |
| scalar of FP8 | `weight_scale` F32 [] | `weight_scale` F32 [1] |
| input of NVFP4 | `input_scale` F32 [] | `input_global_scale` F32 [1] = 1 / input_scale |
| input of FP8 | `input_scale` F32 [] | `input_scale` F32 [1] |
| keys, values | `self_attn.k_proj.k_scale`, `v_proj.v_scale` F32 [] | `self_attn.k_scale`, `v_scale` F32 [1] |

Who loads what, by the loaders' source, November 2026:

| format | modelopt | compressed-tensors |
|---|---|---|
| nvfp4 | vLLM, SGLang, TensorRT-LLM | vLLM, transformers |
| nvfp4a16 | vLLM, TensorRT-LLM after 1.2 | vLLM, TensorRT-LLM after 1.2, transformers |
| mxfp4 | nobody, refused | vLLM, transformers |
| fp8 | vLLM, SGLang, TensorRT-LLM | vLLM, transformers |
| fp8-dynamic | vLLM, TensorRT-LLM | vLLM, transformers |
| a mixture | vLLM: of nvfp4, nvfp4a16 and fp8 | vLLM, transformers: of all |

A third layout, `gpt_oss_layout`, is that of one family: stacked experts in MXFP4 as gpt-oss is published.
"""

from __future__ import annotations

from slipway.quantization.compressed_tensors_layout import CompressedTensors
from slipway.quantization.gpt_oss_layout import GptOss
from slipway.quantization.modelopt_layout import ModelOpt
from slipway.quantization.scheme import Layout, Place, Scheme

__all__ = ["GPT_OSS", "LAYOUTS", "Layout", "Place", "Scheme", "layout_named"]

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (ModelOpt(), CompressedTensors())}
GPT_OSS: Layout = GptOss()


def layout_named(name: str) -> Layout:
    """The layout of `quantize.layout`."""
    return GPT_OSS if name == GPT_OSS.name else LAYOUTS[name]
