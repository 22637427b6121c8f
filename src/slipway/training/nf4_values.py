"""Weights in NF4 as the fp32 numbers that they stand for, where memory has room for them.

On a CPU bitsandbytes dequantizes a weight for every product, forward and backward: of short packs that is a third of a
step. The numbers that training sees are the same either way; what is given up is the memory that NF4 saves, which a
model of this size does not need.
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import nn

ROOM = 0.5  # of the free memory: a training step needs some of it, too


def hold_values(model: nn.Module, free: float) -> bool:
    """Replace every NF4 module of `model` by a frozen fp32 one of its values, unless they take more than half of `free`
    bytes. Returns whether it did."""
    quantized = [(name, module) for name, module in model.named_modules() if isinstance(module, Linear4bit)]
    if sum(4 * module.in_features * module.out_features for _, module in quantized) > ROOM * free:
        return False
    for name, module in quantized:
        parent, _, attribute = name.rpartition(".")
        model.get_submodule(parent).register_module(attribute, _plain(module))
    return True


def _plain(module: Any) -> nn.Linear:
    with torch.device("meta"):
        plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
    values = dequantize_4bit(module.weight.data, module.weight.quant_state).float()
    plain.weight = nn.Parameter(values, requires_grad=False)
    if module.bias is not None:
        plain.bias = nn.Parameter(module.bias.data.float(), requires_grad=False)
    return plain
