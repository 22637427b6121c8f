"""Largest magnitudes by hooks on the whole model: what calibration, layer by layer or NVIDIA's, must find."""

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from slipway.quantization import fusion

Amaxes = dict[str, torch.Tensor]
_FIRST = ("gate_proj", "up_proj", "gate_up_proj", "w1", "w3")
_MATMULS = {torch.nn.functional.linear, torch.Tensor.matmul, torch.bmm}


class _Experts(TorchFunctionMode):
    """Within the forward of stacked experts: the first matmul of an expert takes the layer's input, the second its
    own."""

    def __init__(self, amaxes: Amaxes, layer: str) -> None:
        super().__init__()
        self.amaxes, self.layer, self.second = amaxes, layer, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _MATMULS:
            _note(self.amaxes, f"{self.layer} {'second' if self.second else 'first'}", args[0])
            self.second = not self.second
        return func(*args, **(kwargs or {}))


def _note(amaxes: Amaxes, key: Any, value: torch.Tensor) -> None:
    amax = value.abs().amax().float()
    amaxes[key] = torch.maximum(amaxes[key], amax) if key in amaxes else amax


def input_amaxes(
    model_dir: Path, tokens: Iterable[Sequence[int]]
) -> tuple[Amaxes, dict[tuple[str, str], torch.Tensor]]:
    """Of every weight's input, by the checkpoint's names, and of rotated keys and of values, by (attention, k or v)."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16, experts_implementation="eager")
    amaxes: Amaxes = {}
    kv: dict[Any, torch.Tensor] = {}
    names = {module: name for name, module in model.named_modules()}
    for module, name in names.items():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, args, name=name: _note(amaxes, f"{name}.weight", args[0]))
        elif name.endswith(".experts"):
            _watch_experts(module, amaxes, _layer(name))
    with torch.inference_mode(), _watched_attention(names, kv):
        for ids in tokens:
            model(torch.tensor([ids]))
    return {name: amaxes[key] for name, key in _keys(model_dir) if key in amaxes}, kv


def _watch_experts(module: torch.nn.Module, amaxes: Amaxes, layer: str) -> None:
    forward = module.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        with _Experts(amaxes, layer):
            return forward(*args, **kwargs)

    module.forward = watched


@contextmanager
def _watched_attention(names: dict[torch.nn.Module, str], kv: dict[Any, torch.Tensor]) -> Iterator[None]:
    def watching(attend: Any) -> Any:
        def watched(
            module: torch.nn.Module,
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            *args: Any,
            **kwargs: Any,
        ) -> Any:
            _note(kv, (names[module], "k"), key)
            _note(kv, (names[module], "v"), value)
            return attend(module, query, key, value, *args, **kwargs)

        return watched

    modeling = {inspect.getmodule(type(module)) for module, name in names.items() if name.endswith(".self_attn")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", watching(ALL_ATTENTION_FUNCTIONS["sdpa"]))
        for module in modeling:
            patch.setattr(module, "eager_attention_forward", watching(module.eager_attention_forward))
        yield


def _layer(name: str) -> str:
    return re.findall(r"\.(\d+)\.", name)[0]


def _keys(model_dir: Path) -> Iterator[tuple[str, str]]:
    """(weight on disk, key in what was found): experts on disk may be apart, and under another name than in memory."""
    for file in sorted(model_dir.glob("*.safetensors")):
        with safe_open(file, "pt") as f:
            for name in f.keys():  # noqa: SIM118
                expert = fusion.container(name) is not None
                leaf = fusion.module(name).rpartition(".")[2]
                yield name, f"{_layer(name)} {'first' if leaf in _FIRST else 'second'}" if expert else name
