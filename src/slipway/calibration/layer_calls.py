"""How a decoder calls its layers: recorded, and equal tensors shared, without knowing the decoder.

A layer's call, but for the hidden states, depends on positions and not on what the layers compute. So the decoder is
run with layers that only hand on what they are given, and note the rest: masks, rotary tables, position ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from slipway.errors import CheckpointError

UNFIT = "quantize it without calibration (weight-only, method max or mse), and set evaluate.reference=served"


@dataclass(frozen=True)
class LayerSpec:
    """A decoder layer. `names`: all its checkpoint tensors; `linears`: those that are weights of matmuls, routers
    included."""

    index: int
    module: str
    names: tuple[str, ...]
    linears: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """What a layer is called with beside the hidden states."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class Stack:
    """A decoder and its layers; `path` is that of the list of layers in the model."""

    decoder: nn.Module
    path: str
    layers: list[nn.Module]


def find_stack(model: Any) -> Stack:
    """The one list of as many modules as the config has layers. Raises CheckpointError when there is none, or
    several."""
    root = model.get_decoder()
    prefix = next(path for path, module in model.named_modules() if module is root)
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = {path: module for path, module in root.named_modules() if isinstance(module, nn.ModuleList)}
    outer = [path for path in lists if not any(path.startswith(f"{other}.") for other in lists)]
    stacks = [path for path in outer if len(lists[path]) == count]
    if len(stacks) != 1:
        sizes = ", ".join(f"{path} of {len(lists[path])}" for path in outer) or "none"
        raise CheckpointError(
            f"decoder {type(root).__name__}", f"lists of modules: {sizes}", f"one list of {count} decoder layers", UNFIT
        )
    owner = root.get_submodule(stacks[0].rpartition(".")[0])
    return Stack(owner, f"{prefix}.{stacks[0]}" if prefix else stacks[0], list(lists[stacks[0]]))


def record(stack: Stack, rows: torch.Tensor) -> tuple[torch.Tensor, list[Call], bool]:
    """Tokens [rows, T] -> the states before the first layer, every layer's call, and whether layers return tuples.

    Both ways of returning are tried. Raises CheckpointError for a decoder that is no plain stack of layers.
    """
    for tuples in (False, True):
        recorder = _Recorder(len(stack.layers), tuples=tuples)
        with forwards(stack.layers, [recorder.layer(i) for i in range(len(stack.layers))]):
            try:
                stack.decoder(input_ids=rows, use_cache=False)
            except _Done:
                return recorder.hidden, recorder.calls, tuples
            except _OtherInput:
                continue
    raise CheckpointError(
        f"decoder {type(stack.decoder).__name__}",
        "does not hand each layer's output on to the next",
        "a plain stack of layers",
        UNFIT,
    )


@contextmanager
def forwards(modules: Sequence[nn.Module], replacements: Sequence[Callable[..., Any]]) -> Iterator[None]:
    """The modules with other forwards; their attributes (attention type and the like) stay."""
    with ExitStack() as undo:
        for module, replacement in zip(modules, replacements, strict=True):
            module.forward = replacement
            undo.callback(delattr, module, "forward")
        yield


class Shared:
    """Equal tensors become one: a mask or a rotary table is the same in most layers and micro-batches."""

    def __init__(self) -> None:
        self._distinct: dict[tuple[torch.Size, torch.dtype], list[torch.Tensor]] = {}

    def call(self, call: Call) -> Call:
        """The call with every tensor that layers share held once."""
        return Call(self._shared(call.args), self._shared(call.kwargs))

    def _shared(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._first_equal(value)
        if isinstance(value, dict):
            return {key: self._shared(item) for key, item in value.items()}
        return type(value)(self._shared(item) for item in value) if type(value) in (tuple, list) else value

    def _first_equal(self, value: torch.Tensor) -> torch.Tensor:
        alike = self._distinct.setdefault((value.shape, value.dtype), [])
        for tensor in alike:
            if tensor is value or torch.equal(tensor, value):
                return tensor
        alike.append(value)
        return value


class _Done(Exception):  # noqa: N818
    """The last layer has been reached: what comes after it is not needed."""


class _OtherInput(Exception):  # noqa: N818
    """A layer was given another tensor than the one before it returned, or was called out of turn."""


class _Recorder:
    """Layers that note how they are called and hand on the hidden states."""

    hidden: torch.Tensor

    def __init__(self, count: int, *, tuples: bool) -> None:
        self.calls: list[Call] = []
        self._count, self._tuples = count, tuples

    def layer(self, index: int) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden, args = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), args)
            if index == 0:
                self.hidden = hidden
            if index != len(self.calls) or hidden is not self.hidden:
                raise _OtherInput
            if kwargs.get("past_key_values") is not None:
                raise CheckpointError(
                    f"decoder layer {index}", "called with a cache", "a layer that keeps no state", UNFIT
                )
            self.calls.append(Call(args, kwargs))
            if len(self.calls) == self._count:
                raise _Done
            return (hidden,) if self._tuples else hidden

        return forward
