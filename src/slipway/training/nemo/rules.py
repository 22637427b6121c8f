"""The rules of a NeMo recipe: what would fail, train wrongly or not fit, found before anything starts.

Each error carries its reason and a way out. Upstream notices some of these deep inside a job that waited for its GPUs,
and others never (documents that see each other, samples that are dropped, adapters that match nothing).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.config.train import TrainConfig
from slipway.errors import ConfigError
from slipway.planning.fit import fit, room_in_words
from slipway.planning.parallelism import Parallelism, parallelism
from slipway.planning.training_memory import memory_plan, training_fit
from slipway.training.nemo.recomputation import check_recomputation, recomputations
from slipway.training.nemo.steps import steps_per_epoch, total_steps


@dataclass(frozen=True)
class DataFacts:
    """The training split as the trainer reads it.

    `longest` and `tokens` count the chat template's tokens too: of the longest sample, and of all. `sequences` is the
    number of packed sequences in an epoch; None stands for not counted, and `rows` is taken.
    """

    rows: int
    longest: int
    tokens: int
    label_tokens: int | None = None
    sequences: int | None = None


def check_rules(model: ModelConfig, params: TrainConfig, target: TargetConfig, data: DataFacts | None) -> None:
    """Raise ConfigError for the first rule that model, recipe and target break. Without `data` only the rules that need
    no data are checked."""
    if params.backend != "nemo":
        raise ConfigError(
            "train.backend", params.backend, "nemo", "choose a train row of NeMo's, or train with `slipway run`"
        )
    gpus = parallelism(params, target)
    _quantized(params)
    check_recomputation(params)
    _strategy(params)
    _sizes(model, gpus)
    _memory(model, params, target)
    _pipeline(params)
    _experts(model, params, gpus)
    _packing(params)
    _batch(params, gpus)
    if data:
        _data(params, gpus, data)


def _quantized(params: TrainConfig) -> None:
    ways = ("tensor_parallel", "context_parallel", "pipeline_parallel")
    used = [f"{way}={getattr(params, way)}" for way in ways if getattr(params, way) > 1]
    used += ["sequence_parallel=true"] * params.sequence_parallel
    if params.method == "qlora" and used:
        raise ConfigError(
            "train.method",
            f"qlora with {', '.join(used)}",
            "data parallelism only: NF4 weights are not cut across GPUs, upstream fails on them long after the start",
            "use train.method=lora, or take the parallel sizes back to 1 (each GPU holds an NF4 copy, or FSDP2 its "
            "share)",
        )


def _strategy(params: TrainConfig) -> None:
    ways = ("tensor_parallel", "context_parallel", "pipeline_parallel", "expert_parallel")
    for way in ways:
        if params.strategy == "ddp" and getattr(params, way) > 1:
            raise ConfigError(
                "train.strategy",
                f"ddp with {way}={getattr(params, way)}",
                "ddp alone: every GPU holds the whole model",
                f"use train.strategy=fsdp2, or train.{way}=1",
            )
    if params.sequence_parallel and params.tensor_parallel == 1:
        raise ConfigError(
            "train.sequence_parallel",
            True,
            "tensor_parallel above 1, whose GPUs share the sequence",
            "set train.tensor_parallel, or drop it",
        )
    if params.context_parallel > 1 and params.packing != "none":
        raise ConfigError(
            "train.context_parallel",
            f"{params.context_parallel} with packing={params.packing}",
            "whole documents on a GPU: packed sequences are not cut",
            "set train.packing=none, or train.context_parallel=1",
        )


def _sizes(model: ModelConfig, gpus: Parallelism) -> None:
    if not gpus.data:
        raise ConfigError(
            "parallel sizes",
            f"tensor {gpus.tensor} x context {gpus.context} x pipeline {gpus.pipeline} = {gpus.model}",
            f"a divisor of the target's {gpus.world} GPUs",
            "change train.*_parallel, or target.nodes and target.gpus",
        )
    if model.kv_heads % gpus.tensor:
        raise ConfigError(
            "train.tensor_parallel",
            gpus.tensor,
            f"a divisor of the model's {model.kv_heads} key and value heads",
            "lower it to one",
        )
    if gpus.pipeline > model.layers:
        raise ConfigError(
            "train.pipeline_parallel", gpus.pipeline, f"at most the model's {model.layers} layers", "lower it"
        )


def _pipeline(params: TrainConfig) -> None:
    stages = params.pipeline_parallel
    if stages > 1 and params.micro_batch < stages:
        raise ConfigError(
            "train.micro_batch",
            params.micro_batch,
            f"at least pipeline_parallel={stages}, to keep every stage busy",
            f"set train.micro_batch={stages}, or fewer stages",
        )
    if stages > 1 and params.loss != "masked":
        raise ConfigError(
            "train.loss",
            f"{params.loss} with pipeline_parallel={stages}",
            "masked: stages hand on logits, not hidden states",
            "set train.loss=masked",
        )


def _experts(model: ModelConfig, params: TrainConfig, gpus: Parallelism) -> None:
    if gpus.expert > 1 and not model.experts:
        raise ConfigError(
            "train.expert_parallel", gpus.expert, f"1: {model.name} is dense", "set train.expert_parallel=1"
        )
    if not model.experts:
        return
    replicas = gpus.data * gpus.context * gpus.tensor
    if model.experts % gpus.expert or replicas % gpus.expert:
        raise ConfigError(
            "train.expert_parallel",
            gpus.expert,
            f"a divisor of {model.experts} experts and of the {replicas} GPUs of a pipeline stage",
            "choose such a number",
        )
    if params.method == "qlora":
        raise ConfigError(
            "train.method",
            f"qlora for a mixture of {model.experts} experts",
            "lora: bitsandbytes quantizes linear modules, and the experts are none; they would stay in bf16, 2 bytes "
            "a weight",
            "use train.method=lora with train.expert_parallel over the GPUs of a node",
        )
    if params.attention == "flash_attention_2":
        raise ConfigError(
            "train.attention",
            params.attention,
            "sdpa or eager: upstream's own code for mixtures has no such backend",
            "set train.attention=sdpa",
        )
    mlp = [name for name in params.targets if name in TrainConfig.MLP_PROJECTIONS]
    if params.method == "lora" and mlp:
        raise ConfigError(
            "train.targets",
            ", ".join(mlp),
            "attention projections: experts are no linear modules, upstream would skip them silently",
            "set train.targets=[q_proj,k_proj,v_proj,o_proj]",
        )


def _packing(params: TrainConfig) -> None:
    """With `thd` only the positions mark where a document ends. Model code reads them only while it keeps no key cache,
    and it keeps one unless recomputation switches it off."""
    if params.packing == "thd" and params.activation_checkpointing == "none":
        raise ConfigError(
            "train.packing",
            f"thd with activation_checkpointing=none and {params.attention}",
            "packing in which no document sees another: here each attends to those before it in its sequence, "
            "without a word",
            "set train.packing=neat, or train.activation_checkpointing=full",
        )


def _batch(params: TrainConfig, gpus: Parallelism) -> None:
    together = params.micro_batch * gpus.data
    if params.global_batch % together:
        near = max(together, round(params.global_batch / together) * together)
        raise ConfigError(
            "train.global_batch",
            params.global_batch,
            f"a multiple of micro_batch {params.micro_batch} x {gpus.data} data-parallel GPUs = {together}",
            f"set train.global_batch={near}",
        )


def _data(params: TrainConfig, gpus: Parallelism, data: DataFacts) -> None:
    if data.longest > params.pack_length and not params.truncate:
        raise ConfigError(
            "train.pack_length",
            params.pack_length,
            f"at least the longest sample, {data.longest} tokens: none is cut or dropped silently",
            f"set train.pack_length={data.longest} or more, drop the sample (data.max_tokens), or allow the cut with "
            "train.truncate=true",
        )
    if data.label_tokens == 0:
        raise ConfigError(
            "training split", "no token to learn", "assistant turns in the rows", "check the rows' `messages`"
        )
    if params.max_steps:
        _max_steps(params, gpus, data.sequences or data.rows, params.max_steps)


def _max_steps(params: TrainConfig, gpus: Parallelism, sequences: int, wanted: int) -> None:
    per_epoch = steps_per_epoch(
        sequences, global_batch=params.global_batch, micro_batch=params.micro_batch, ranks=gpus.data
    )
    available = total_steps(per_epoch, params.epochs, None) if per_epoch else 0
    if wanted > available:
        way_out = f"raise train.epochs to {-(-wanted // per_epoch)}, or " if per_epoch else ""
        raise ConfigError(
            "train.max_steps",
            wanted,
            f"at most {available}: all that {params.epochs:g} epochs of {sequences} sequences hold",
            f"{way_out}lower train.max_steps or train.global_batch",
        )


def _memory(model: ModelConfig, params: TrainConfig, target: TargetConfig) -> None:
    fitting = training_fit(model, params, target)
    if fitting is None or fitting.fits or fitting.unknown:  # what nobody can tell, preflight and recipe say
        return
    room, plan = fitting.room, memory_plan(model, params, target)
    parts = (
        f"{plan.loading / 1e9:.0f} GB while the model loads"
        if plan.loading > plan.step
        else f"{plan.step / 1e9:.0f} GB: weights {plan.weights / 1e9:.0f}, trained {plan.trained / 1e9:.0f}, "
        f"activations {plan.kept / 1e9:.0f}, logits and work {plan.working / 1e9:.0f}"
    )
    raise ConfigError(
        f"memory for {params.method} of {model.name} ({model.parameters_b:g}B)",
        parts,
        f"at most {room / 1e9:.0f} GB on a GPU of {target.name} ({room_in_words(target)})",
        _way_out(model, params, target, room),
    )


def _way_out(model: ModelConfig, params: TrainConfig, target: TargetConfig, room: float) -> str:
    """Advice in words: the first change of `_changes` that fits into `room` bytes, else a larger machine."""
    for change in _changes(params):
        other = params.model_copy(update=change)
        gpus = parallelism(other, target)
        allowed = other.method != "qlora" or not (model.experts or gpus.model > 1)
        if (
            allowed
            and not (other.loss != "masked" and gpus.pipeline > 1)
            and fit(memory_plan(model, other, target).needed, room).fits
        ):
            words = " ".join(f"train.{key}={value}" for key, value in change.items() if value != getattr(params, key))
            return f"set {words}, or choose a target with more memory or more GPUs"
    return (
        "choose a target with more memory or more GPUs (conf/targets), with train.strategy=fsdp2 to share the weights"
    )


def _changes(params: TrainConfig) -> Iterator[dict[str, Any]]:
    """Changes of the recipe that take less memory, from those that leave the result as it is to those that change the
    method."""
    least = {
        "activation_checkpointing": "full",
        "micro_batch": 1,
        "loss": params.loss if params.loss != "masked" else "chunked",
    }
    yield from ({"activation_checkpointing": how} for how in recomputations(params.method)[1:])
    yield {"activation_checkpointing": "full", "micro_batch": 1}
    yield least
    if params.strategy == "ddp":
        yield from ({"strategy": "fsdp2"}, {"strategy": "fsdp2", **least})
    yield from (
        {**least, "pack_length": params.pack_length // part} for part in (2, 4, 8) if params.pack_length // part >= 512
    )
    lighter = ("lora", "qlora") if params.method == "sft" else ("qlora",)
    yield from ({"method": method, **rest} for method in lighter for rest in ({}, least))
