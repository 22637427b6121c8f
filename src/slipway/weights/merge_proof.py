"""Proof that a merge is what it says, by routes that share no arithmetic with it.

Layers: PEFT itself merges sampled modules in fp32. Rounded to bf16 its weights are ours but for few elements, which are
one bf16 step away: PEFT's fp32 sum has an error, ours is exact before it is rounded (`slipway.weights.rounded_merge`).
Logits: PEFT runs base + unmerged adapter in fp32; the merged bf16 weights must give nearly the same logits. Where
routers choose experts, those of base + adapter are given to the merge (`routing`), and its logits are held with them;
a router's own choice may differ near a tie, for few tokens, which are counted and shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from peft import PeftConfig, PeftModel, inject_adapter_in_model
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from slipway.errors import CheckpointError
from slipway.weights.dequantized import quantized_base
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.model_config import with_floats
from slipway.weights.routing import Routing
from slipway.weights.shards import LowRank, TensorSource
from slipway.weights.updates import Product, Update

_MAX_PARAMETERS = 3e9  # above this two CPU forward passes take longer than the rest of the merge
_SEED = 17
# An fp32 sum errs by about sqrt(r) 2^-24 of the update and a bf16 step is 2^-8 of the weight, so a share of about
# sqrt(r) 2^-16 |update| / |weight| falls on another side. Measured: 2e-6 to 2e-4 for ranks 8 to 192 and updates of 0.04
# to 20 times the weights.
_MAX_SHARE, _ALWAYS = 1e-3, 8  # of a tensor's elements; this many are too few to be a share
_MOST_ROUTER_ERROR = 0.25  # of the spread of a router's scores; rounding moves them by some 0.01


def sample(names: Sequence[str], count: int) -> list[str]:
    """`count` names evenly spread over all of them, first and last included."""
    if len(names) <= count:
        return list(names)
    return [names[round(i * (len(names) - 1) / max(count - 1, 1))] for i in range(count)]


def prove_layers(base: TensorSource, merged: MergedSource, adapter: LoraAdapter, count: int) -> dict[str, float]:
    """Merge `count` sampled tensors with PEFT: name -> share of its elements that are one bf16 step from PEFT's merge.

    Raises CheckpointError where an element is further away, or where more than 1 in 1,000 differ.
    """
    pairs = {name: update for name, update in merged.updates.items() if _is_plain(update)}
    names = sample(list(pairs), count)
    shares = {}
    for name, theirs in peft_merge(base, merged, adapter, names).items():
        ours, update = merged.read(name), merged.recipe(name).updates[-1]
        far = (bf16_steps(ours, theirs) > 1) & (
            (ours.float() - theirs.float()).abs() > _fp32_error(base.read(name), update)
        )
        differing = int((ours != theirs).sum())
        if far.any() or differing > _ALWAYS + _MAX_SHARE * ours.numel():
            raise CheckpointError(
                f"merge proof of {name}",
                f"{differing} of {ours.numel()} values differ from PEFT's merge, "
                f"{int(far.sum())} of them by more than one bf16 step",
                f"at most {_MAX_SHARE:.1%}, each by one step",
                "report this with the versions of torch and peft",
            )
        shares[name] = differing / ours.numel()
    return shares


def _is_plain(update: Update) -> bool:
    """Whether PEFT can merge it into one Linear that is made from the base's tensor."""
    return isinstance(update, Product) and update.experts == 1 and not update.embedding and not update.replacement


def bf16_steps(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """How many bf16 values lie from one value to the other, int32, elementwise; -0 and +0 are one value."""
    bits = [tensor.view(torch.int16).int() for tensor in (one, other)]
    places = [torch.where(value < 0, -(value & 0x7FFF), value) for value in bits]  # in the order of the values
    steps: torch.Tensor = (places[0] - places[1]).abs()
    return steps


def _fp32_error(weight: torch.Tensor, update: LowRank) -> torch.Tensor:
    """fp32 [rows, 1]: what a merge in fp32 may be off by. Where weight and update cancel this is many bf16 steps."""
    product = torch.linalg.vector_norm(update.b, dim=1) * torch.linalg.vector_norm(update.a, dim=0).amax()
    size = product * update.scaling + weight.float().abs().amax(1)
    error: torch.Tensor = (update.a.shape[0] + 4) * 2.0**-24 * size
    return error.unsqueeze(1)


def peft_merge(
    base: TensorSource, merged: MergedSource, adapter: LoraAdapter, names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """bf16 tensors of `names` as PEFT merges them into an fp32 base: it reads the adapter's config, patterns included,
    itself."""
    skeleton = torch.nn.Module()
    updates = {name: update for name in names if isinstance(update := merged.updates[name], Product)}
    for name, update in updates.items():
        _plant(skeleton, update.module, base.read(name).float(), transposed=update.turned)
    config = PeftConfig.from_pretrained(str(adapter.directory))
    inject_adapter_in_model(config, skeleton, "default")
    result = {}
    for name, update in updates.items():
        layer: Any = skeleton.get_submodule(update.module)
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
    if stored := quantized_base(base):
        return f"the base is stored in {stored}"
    if parameters > _MAX_PARAMETERS:
        return f"{parameters / 1e9:.1f}B parameters, more than {_MAX_PARAMETERS / 1e9:.0f}B"
    if needed > free:
        return f"needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
    return None


@torch.inference_mode()
def prove_logits(base_dir: Path, adapter_dir: Path, merged: MergedSource, tokens: int) -> dict[str, float]:
    """Differences between the logits of the merge and of base + adapter, both run in fp32, on `tokens` fixed random
    tokens.

    Of a model with routers also `routed_mean_abs`, with the experts that base + adapter chose; `router_error`, the
    largest difference of a router's scores over their spread; `rerouted_tokens`, for which a router of the merge
    chooses other experts by itself, and `rerouted_mean_abs` of those.
    """
    config = AutoConfig.from_pretrained(base_dir)
    loader = _class_of(config)
    ids = torch.randint(
        config.get_text_config().vocab_size, (1, tokens), generator=torch.Generator().manual_seed(_SEED)
    )
    model = loader.from_pretrained(base_dir, dtype=torch.float32)
    rows = merged.vocabulary_rows
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    adapted = PeftModel.from_pretrained(model, adapter_dir).eval()
    with Routing(tokens) as routing:
        expected = adapted(ids).logits[0]
    del model, adapted
    changed = type(config).from_dict(with_floats(merged.config())) if merged.config() else config
    state = {name: merged.read(name) for name in merged.names()}
    model = loader.from_pretrained(None, config=changed, state_dict=state, dtype=torch.float32).eval()
    if not routing.choices:
        return compare(expected, model(ids).logits[0])
    with Routing(tokens, routing) as replay:
        held = model(ids).logits[0]
    rerouted = torch.stack(replay.changed).any(0)
    actual = model(ids).logits[0] if rerouted.any() else held
    figures = {
        "routed_mean_abs": float((expected - held).abs().mean()),
        "router_error": max(replay.errors),
        "rerouted_tokens": float(rerouted.sum()),
    }
    if rerouted.any():
        figures["rerouted_mean_abs"] = float((expected - actual)[rerouted].abs().mean())
    return compare(expected, actual) | figures


def require_equal_logits(figures: Mapping[str, float], limit: float) -> None:
    """Raise CheckpointError where the mean absolute difference of the logits, with equal experts where routers choose
    some, is over `limit`, and where the scores of a router differ by more than rounding."""
    error = figures.get("routed_mean_abs", figures["mean_abs"])
    if not error <= limit:  # NaN fails too
        equal = ", with the experts that these choose" if "routed_mean_abs" in figures else ""
        raise CheckpointError(
            f"merge proof: mean absolute logit difference to base + adapter{equal}",
            f"{error:.4f}",
            f"at most {limit}",
            "look at the adapter: a very large one does not fit in bf16 (merge.max_logit_error)",
        )
    error = figures.get("router_error", 0.0)
    if not error <= _MOST_ROUTER_ERROR:
        raise CheckpointError(
            "merge proof: scores of a router",
            f"{error:.3f} of their spread away from base + adapter",
            f"at most {_MOST_ROUTER_ERROR}",
            "look at the adapter: it may change a router by what does not fit in bf16",
        )


def _class_of(config: Any) -> Any:
    """The class of transformers that a config names, by default a language model's."""
    return getattr(transformers, (config.architectures or [""])[0], AutoModelForCausalLM)


def compare(expected: torch.Tensor, actual: torch.Tensor) -> dict[str, float]:
    """Figures of two logit tables [tokens, vocabulary]; KL(expected || actual) in nats per token."""
    kl = (
        functional.kl_div(actual.log_softmax(-1), expected.log_softmax(-1), log_target=True, reduction="none")
        .sum(-1)
        .mean()
    )
    return {
        "mean_abs": float((expected - actual).abs().mean()),
        "max_abs": float((expected - actual).abs().max()),
        "kl": float(kl),
        "top1_agreement": float((expected.argmax(-1) == actual.argmax(-1)).float().mean()),
        "tokens": float(expected.shape[0]),
    }
