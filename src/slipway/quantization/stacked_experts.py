"""Experts of a layer stacked in one tensor, as gpt-oss and Llama 4 keep them: inputs first, `x @ W[e]`.

    gate_up_proj [E, H, 2F], down_proj [E, F, H]    H features of the model, F of an expert

Quantized, they are rows [E * O, I] with one scalar for all experts, which is what ModelOpt does, and go back to [E, I,
O] on disk (`modelopt_layout`). Experts stacked as `W[e] @ x`, [E, 2F, H], stay in bf16 and are named as such: ModelOpt
takes those apart, one tensor for each expert and projection, and no runtime loads them otherwise. Which of the two a
tensor is, the model's class says (`weights.architecture`).
"""

from __future__ import annotations

import torch

from slipway.weights.shards import TensorInfo


def logical(info: TensorInfo) -> TensorInfo:
    """[E, I, O] as it lies -> [E, O, I] as formats and layouts mean it."""
    experts, columns, rows = info.shape
    return TensorInfo(info.dtype, (experts, rows, columns))


def as_rows(info: TensorInfo) -> TensorInfo:
    """A weight as formats and layouts mean it: stacked experts turned, everything else as it lies."""
    return logical(info) if len(info.shape) == 3 else info


def rows(stacked: torch.Tensor) -> torch.Tensor:
    """[E, I, O] -> contiguous [E * O, I]."""
    return stacked.transpose(-1, -2).flatten(0, 1).contiguous()


def restacked(decoded: torch.Tensor, info: TensorInfo) -> torch.Tensor:
    """[E * O, I] -> [E, I, O], as the tensor of `info` lies."""
    experts, columns, _ = info.shape
    return decoded.reshape(experts, -1, columns).transpose(1, 2).contiguous()
