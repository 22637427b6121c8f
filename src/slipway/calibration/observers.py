"""What a layer's matmuls and attention see, without knowing the layer.

Matmuls are watched where torch dispatches them (`F.linear`, `matmul`, `bmm`, `addmm` ...): an operand whose storage and
offset lie within a parameter is that parameter, or one slice of a stacked one, transposed or not. `nn.Linear`, a
router's bare parameter and one expert of a 3-D stack all come out the same.

Attention is watched at transformers' attention interface: keys after the rotary embedding and values, both
[batch, kv heads, tokens, head], before heads are repeated. NVIDIA ModelOpt 0.47 places its k and v quantizers for the
KV cache at the same point (`plugins/huggingface.py`, `_QuantAttention._quantized_attention`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from slipway.calibration.layer_calls import LayerSpec
from slipway.calibration.module_weights import Origin

_PRODUCTS: dict[Any, int] = {  # function -> which argument is its first factor
    **dict.fromkeys(
        (
            torch.matmul,
            torch.mm,
            torch.bmm,
            torch.Tensor.matmul,
            torch.Tensor.__matmul__,
            torch.Tensor.mm,
            torch.Tensor.bmm,
        ),
        0,
    ),
    **dict.fromkeys((torch.addmm, torch.baddbmm, torch.Tensor.addmm, torch.Tensor.baddbmm), 1),
}
_NAMES = {"input", "self", "other", "mat1", "mat2", "batch1", "batch2"}  # of those factors, when given by keyword


class SeenEnoughError(Exception):
    """An observer has what it wants of a micro-batch: what the layer computes after it is not needed."""


class Observer(Protocol):
    """Told, in the order of computation, what goes into the matmuls and the attention of a layer. Must not keep
    views."""

    def linear(self, names: tuple[str, ...], x: torch.Tensor, expert: int | None) -> None:
        """x [tokens, in]: the input of the matmul whose weight is made of these checkpoint tensors.

        Several names: one matmul for several tensors (gate and up of an expert). `expert`: the slice, when the
        checkpoint tensor itself is a stack [experts, ., .]; else None. Never called for an expert that no token was
        routed to, nor for a weight that the layer casts first (routers kept in fp32 while the rest is bf16).
        """

    def attention(self, layer: LayerSpec, key: torch.Tensor, value: torch.Tensor) -> None:
        """key, value [batch, kv heads, tokens, head] as attention sees them."""


@dataclass(frozen=True)
class _Span:
    """A parameter's elements within its storage."""

    begin: int
    end: int
    parameter: torch.Tensor
    origin: Origin


class MatmulWatch(TorchFunctionMode):
    """While active, tells `tell(names, x, expert)` of every product with a parameter of `module`."""

    def __init__(
        self,
        module: nn.Module,
        origins: Mapping[str, Origin],
        tell: Callable[[tuple[str, ...], torch.Tensor, int | None], None],
    ) -> None:
        """`origins` by the name of the parameter within `module`."""
        super().__init__()
        self._tell = tell
        self._spans: dict[int, list[_Span]] = defaultdict(list)
        for path, parameter in module.named_parameters():
            if parameter.dim() > 1 and path in origins:
                begin = int(parameter.storage_offset())
                extent = 1 + sum(
                    (n - 1) * int(step) for n, step in zip(parameter.shape, parameter.stride(), strict=True)
                )
                self._spans[parameter.untyped_storage().data_ptr()].append(
                    _Span(begin, begin + extent, parameter, origins[path])
                )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear:
            x, weight = (*args, *(kwargs[key] for key in ("input", "weight") if key in kwargs))[:2]
            self._observe(weight, x)
        elif func in _PRODUCTS:
            given = (*args, *(value for key, value in kwargs.items() if key in _NAMES))
            first, second = given[_PRODUCTS[func] : _PRODUCTS[func] + 2]
            if not self._observe(second, first) and second.dim() > 1:
                self._observe(first, second.mT)
        return func(*args, **kwargs)

    def _observe(self, weight: torch.Tensor, x: torch.Tensor) -> bool:
        """Whether `weight` is a parameter; x [..., tokens, in]."""
        span = self._span(weight)
        if span is None:
            return False
        if span.parameter.dim() == 2:
            self._tell(span.origin.slices[0], x.reshape(-1, x.shape[-1]), None)
            return True
        first = (weight.storage_offset() - span.begin) // span.parameter.stride(0)
        count = weight.shape[0] if weight.dim() > 2 else 1
        for i, part in enumerate(x.expand(count, *x.shape[-2:]) if weight.dim() > 2 else [x]):
            expert = first + i
            self._tell(
                span.origin.slices[expert], part.reshape(-1, x.shape[-1]), expert if span.origin.stacked else None
            )
        return True

    def _span(self, weight: torch.Tensor) -> _Span | None:
        spans = self._spans.get(weight.untyped_storage().data_ptr(), ())
        return next((span for span in spans if span.begin <= weight.storage_offset() < span.end), None)


class LayerWatch:
    """While active, `observer` sees what goes into the matmuls and the attention of one layer. Can be entered again."""

    def __init__(self, layer: LayerSpec, module: nn.Module, origins: Mapping[str, Origin], observer: Observer) -> None:
        self._matmuls = MatmulWatch(module, origins, observer.linear)
        self._tell = lambda key, value: observer.attention(layer, key, value)

    def __enter__(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(attention_watch(self._tell))
            stack.enter_context(self._matmuls)
            self._stack = stack.pop_all()

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


@contextmanager
def attention_watch(tell: Callable[[torch.Tensor, torch.Tensor], None]) -> Iterator[None]:
    """While active, tells `tell(key, value)` of every call of an attention function, whichever a model uses."""
    choose = ALL_ATTENTION_FUNCTIONS.get_interface

    def get_interface(name: str, default: Callable[..., Any]) -> Callable[..., Any]:
        attend = choose(name, default)

        def observed(
            module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any
        ) -> Any:
            tell(key, value)
            return attend(module, query, key, value, *args, **kwargs)

        return observed

    ALL_ATTENTION_FUNCTIONS.get_interface = get_interface
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS.get_interface
