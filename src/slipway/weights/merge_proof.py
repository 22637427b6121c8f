"""Proof that a merge is what it says, by routes that share no arithmetic with it.

Layers: PEFT itself merges sampled modules in fp32; after one rounding every bit must agree.
Logits: PEFT runs base + unmerged adapter in fp32; the merged bf16 weights must give nearly the same logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import PeftConfig, PeftModel, inject_adapter_in_model
from torch.nn import functional
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from slipway.errors import CheckpointError
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.shards import TensorSource

_MAX_PARAMETERS = 3e9  # above this two CPU forward passes take longer than the rest of the merge
_SEED = 17


def sample(names: Sequence[str], count: int) -> list[str]:
    """`count` names evenly spread over all of them, first and last included."""
    if len(names) <= count:
        return list(names)
    return [names[round(i * (len(names) - 1) / max(count - 1, 1))] for i in range(count)]


def prove_layers(base: TensorSource, merged: MergedSource, adapter: LoraAdapter, count: int) -> list[str]:
    """Names of the sampled tensors whose merge PEFT reproduced bit for bit. Raises CheckpointError at the first other bit."""
    names = sample([name for name, update in merged.updates.items() if update.a], count)
    for name, weight in peft_merge(base, merged, adapter, names).items():
        differing = int((weight.view(torch.int16) != merged.read(name).view(torch.int16)).sum())
        if differing:
            value = f"{differing} of {weight.numel()} values differ from PEFT's merge"
            raise CheckpointError(
                f"merge proof of {name}", value, "bit-equal", "report this with the versions of torch and peft"
            )
    return names


def peft_merge(
    base: TensorSource, merged: MergedSource, adapter: LoraAdapter, names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """bf16 tensors of `names` as PEFT merges them into an fp32 base: it reads the adapter's config, patterns included, itself."""
    skeleton = torch.nn.Module()
    for name in names:
        _plant(
            skeleton,
            name.removesuffix(".weight"),
            base.read(name).float(),
            transposed=bool(adapter.config.get("fan_in_fan_out")),
        )
    config = PeftConfig.from_pretrained(str(adapter.directory))
    inject_adapter_in_model(config, skeleton, "default")
    result = {}
    for name in names:
        layer: Any = skeleton.get_submodule(name.removesuffix(".weight"))
        update = merged.updates[name]
        assert update.a and update.b
        layer.lora_A["default"].weight.data = adapter.read(update.a)
        layer.lora_B["default"].weight.data = adapter.read(update.b)
        layer.merge()
        result[name] = layer.get_base_layer().weight.data.to(torch.bfloat16)
    return result


def _plant(root: torch.nn.Module, path: str, weight: torch.Tensor, *, transposed: bool) -> None:
    *parents, leaf = path.split(".")
    for part in parents:
        if not hasattr(root, part):
            root.add_module(part, torch.nn.Module())
        root = root.get_submodule(part)
    linear = (
        Conv1D(weight.shape[1], weight.shape[0])
        if transposed
        else torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    )
    linear.weight.data = weight
    root.add_module(leaf, linear)


def why_no_logits(base: TensorSource, *, base_is_virtual: bool) -> str | None:
    """Why the logits cannot be compared here, or None when they can."""
    parameters = sum(base.info(name).numel for name in base.names())
    needed, free = 6 * parameters, psutil.virtual_memory().available  # fp32 weights and half as much for activations
    if base_is_virtual:
        return "the base is itself virtual"
    if parameters > _MAX_PARAMETERS:
        return f"{parameters / 1e9:.1f}B parameters, more than {_MAX_PARAMETERS / 1e9:.0f}B"
    if needed > free:
        return f"needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
    return None


def prove_logits(base_dir: Path, adapter_dir: Path, merged: TensorSource, tokens: int) -> Mapping[str, float]:
    """Differences between the logits of the merge and of base + adapter, both run in fp32, on `tokens` fixed random tokens."""
    model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    ids = torch.randint(model.config.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(_SEED))
    with torch.inference_mode():
        adapted = PeftModel.from_pretrained(model, adapter_dir)
        want = adapted(ids).logits[0]
        model = adapted.unload()
        state = model.state_dict()
        for name in merged.names():
            state[name].copy_(merged.read(name))
        got = model(ids).logits[0]
    return compare(want, got)


def compare(want: torch.Tensor, got: torch.Tensor) -> dict[str, float]:
    """Figures of two logit tables [tokens, vocabulary]; KL(want || got) in nats per token."""
    kl = functional.kl_div(got.log_softmax(-1), want.log_softmax(-1), log_target=True, reduction="none").sum(-1).mean()
    return {
        "mean_abs": float((want - got).abs().mean()),
        "max_abs": float((want - got).abs().max()),
        "kl": float(kl),
        "top1_agreement": float((want.argmax(-1) == got.argmax(-1)).float().mean()),
        "tokens": float(want.shape[0]),
    }
