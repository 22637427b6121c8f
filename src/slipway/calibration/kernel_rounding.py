"""What a kernel rounds beside its weights (`calibration.rounding_kinds`), put on a network that runs in fp32.

Sums stay in fp32 and in torch's order: what a kernel's order of summation adds is not simulated, and a product that
does not pass torch's dispatch as a product with a parameter keeps its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from slipway.calibration.rounding_kinds import KernelRounding, Rounding
from slipway.quantization import fp4, fp8

_Q8_BLOCK, _Q8_MAX = 32, 127


def rounded(x: torch.Tensor, rounding: Rounding, scale: torch.Tensor | None = None) -> torch.Tensor:
    """fp32 values of `x` [..., I] after `rounding`; `scale`, fp32 scalar, is the checkpoint's static input scale."""
    if rounding == "none":
        return x
    value: torch.Tensor = _ROUND[rounding](x.float(), scale)
    return value.to(x.dtype)


def _q8_0(x: torch.Tensor, _scale: torch.Tensor | None) -> torch.Tensor:
    if x.shape[-1] % _Q8_BLOCK:
        return x  # ggml takes another type for such rows
    blocks = x.reshape(*x.shape[:-1], -1, _Q8_BLOCK)
    step = blocks.abs().amax(-1, keepdim=True) / _Q8_MAX
    codes = torch.where(step > 0, blocks / step, 0.0).round()
    return (codes * step.half().float()).reshape(x.shape)


def _fp8(x: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    step = fp8.scale(x.abs().amax(-1, keepdim=True)) if scale is None else scale
    return fp8.cast(x / step).float() * step


def _nvfp4(x: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    if x.shape[-1] % fp4.BLOCK:
        return x
    rows = x.reshape(-1, x.shape[-1])
    g = fp4.global_scale(rows.abs().amax()) if scale is None else scale.float().reshape(())
    return fp4.dequantize(*fp4.quantize(rows, g), g).reshape(x.shape)


_ROUND: dict[Rounding, Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]] = {
    "bf16": lambda x, _: x.bfloat16().float(),
    "fp16": lambda x, _: x.half().float(),
    "q8_0": _q8_0,
    "fp8": _fp8,
    "fp8-token": lambda x, _: _fp8(x, None),
    "nvfp4": _nvfp4,
}


class _RoundedProducts(TorchFunctionMode):
    """While active, products with a parameter read rounded inputs and hand on rounded results."""

    def __init__(
        self,
        module: nn.Module | None,
        rounding: KernelRounding,
        quantized: Mapping[str, torch.Tensor | None],
    ) -> None:
        """`quantized`: parameters of `module` with quantized weights by their names, and their input scales. Without a
        module every linear product is one with a weight that is not quantized."""
        super().__init__()
        self._rounding, self._any = rounding, module is None
        self._known: dict[int, tuple[Rounding, torch.Tensor | None]] = {}
        for path, parameter in module.named_parameters() if module else ():
            if parameter.dim() > 1:
                kind = rounding.quantized if path in quantized else rounding.inputs
                self._known[parameter.untyped_storage().data_ptr()] = (kind, quantized.get(path))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear:
            given = [*args, *(kwargs[name] for name in ("input", "weight", "bias") if name in kwargs)]
            x, weight, *rest = given
            how = self._of(weight)
            return self._result(func(rounded(x, *how), weight, *rest)) if how else func(x, weight, *rest)
        if func in _PRODUCTS and len(args) > 1:
            first, second, *rest = list(args)
            if how := self._of(second):
                return self._result(func(rounded(first, *how), second, *rest, **kwargs))
            if (how := self._of(first)) and second.dim() > 1:
                return self._result(func(first, rounded(second.mT, *how).mT, *rest, **kwargs))
        return func(*args, **kwargs)

    def _of(self, weight: torch.Tensor) -> tuple[Rounding, torch.Tensor | None] | None:
        if self._any:
            return self._rounding.inputs, None
        return self._known.get(weight.untyped_storage().data_ptr()) if weight.dim() > 1 else None

    def _result(self, y: torch.Tensor) -> torch.Tensor:
        return rounded(y, self._rounding.results)


_PRODUCTS = {torch.matmul, torch.mm, torch.bmm, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.bmm}


@contextmanager
def layer_rounding(
    module: nn.Module, rounding: KernelRounding, quantized: Mapping[str, torch.Tensor | None]
) -> Iterator[None]:
    """While active, a decoder layer computes as `rounding` says. `quantized`: its parameters with quantized weights,
    by their names in `module`, and their static input scales (fp32 scalars) where they have one."""
    with ExitStack() as stack:
        if rounding.attention != "none":
            stack.enter_context(_rounded_attention(rounding.attention))
        stack.enter_context(_RoundedProducts(module, rounding, quantized))
        yield


@contextmanager
def head_rounding(rounding: KernelRounding) -> Iterator[None]:
    """While active, the output projection reads rounded inputs; its results, the logits, stay in fp32."""
    with _RoundedProducts(None, KernelRounding(inputs=rounding.inputs), {}):
        yield


@contextmanager
def _rounded_attention(rounding: Rounding) -> Iterator[None]:
    """Queries, keys and values as attention reads them, whichever attention a model uses."""
    choose = ALL_ATTENTION_FUNCTIONS.get_interface

    def get_interface(name: str, default: Callable[..., Any]) -> Callable[..., Any]:
        attend = choose(name, default)

        def reading_rounded(
            module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any
        ) -> Any:
            states = (rounded(state, rounding) for state in (query, key, value))
            return attend(module, *states, *args, **kwargs)

        return reading_rounded

    ALL_ATTENTION_FUNCTIONS.get_interface = get_interface
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS.get_interface
