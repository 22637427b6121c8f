"""What becomes of every tensor of a checkpoint, decided from headers alone, before a byte of weights is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch

from slipway.errors import CheckpointError, ConfigError
from slipway.quantization import fusion, stacked_experts
from slipway.quantization.formats import FORMATS, Format, Role
from slipway.quantization.layouts import Layout, Place, Scheme
from slipway.weights.shard_writer import part_key
from slipway.weights.shards import TensorInfo, TensorSource, natural

KV: tuple[Literal["k", "v"], ...] = ("k", "v")
PIECE = 1 << 27  # bytes of a large tensor that one thread passes on
BF16 = "bf16"  # the rule that keeps a module as it is
_NEVER = (  # what ModelOpt keeps too: embeddings, routers, small gates, convolutions, other towers
    "*embed*",
    "*wte",
    "*wpe",
    "*router*",
    "*.mlp.gate",
    "*block_sparse_moe.gate",
    "*shared_expert_gate",
    "*conv1d*",
    "*linear_attn.in_proj_a*",
    "*linear_attn.in_proj_b*",
    "mtp.*",
    "*output_layer*",
    "*proj_out*",
    "*vision_tower*",
    "*vision_model*",
    "*visual*",
    "*multi_modal_projector*",
)


@dataclass(frozen=True)
class Unit:
    """Tensors that are made together: weights that share a scalar, or one tensor that is passed on."""

    weights: tuple[str, ...]
    fmt: Format | None  # None: passed on in bf16
    nbytes: int  # as read from the source
    rows: tuple[int, int] = (0, 0)  # passed on: the first row and the number of rows
    key: str = ""  # passed on: what the writer calls them

    @property
    def name(self) -> str:
        """The first weight, which names the unit."""
        return self.weights[0]


@dataclass(frozen=True)
class Plan:
    """`formats`: quantized weight -> its format; `copied` tensors stay bf16; the config names `unquantized` modules."""

    formats: dict[str, Format]
    copied: list[str]
    unquantized: list[str]

    @property
    def linears(self) -> list[str]:
        """Names of the quantized weights."""
        return list(self.formats)

    def scheme(self, version: str, *, kv_cache: bool) -> Scheme:
        """What the config of the checkpoint says of it; `version` is of this package."""
        return Scheme(
            {fusion.module(name): fmt for name, fmt in self.formats.items()}, self.unquantized, kv_cache, version
        )

    def units(self, source: TensorSource) -> list[Unit]:
        """In the order of the checkpoint, each unit at its first member's place."""
        alike: dict[str, list[str]] = {}
        for name, fmt in self.formats.items():
            alike.setdefault(fmt.name, []).append(name)
        units = [unit for name in self.copied for unit in _passed_on(name, source.info(name))]
        for label, names in alike.items():
            fmt = FORMATS[label]
            units += [Unit(tuple(group), fmt, _nbytes(source, group)) for group in fusion.groups(names, fmt.sharing)]
        return sorted(units, key=lambda unit: (natural(unit.name), unit.rows))


def row_bytes(info: TensorInfo) -> int:
    """Bytes of a row of a tensor that is passed on, as it is written."""
    return TensorInfo(passed_on(info).dtype, info.shape[-1:]).nbytes


def passed_on(info: TensorInfo) -> TensorInfo:
    """As it is written: floating tensors in bf16."""
    return TensorInfo(torch.bfloat16, info.shape) if info.dtype.is_floating_point else info


def _passed_on(name: str, info: TensorInfo) -> list[Unit]:
    """Pieces of at most PIECE bytes: an embedding is work for several threads."""
    rows, step = TensorInfo(torch.uint8, info.shape[:-1]).numel, max(1, PIECE // max(row_bytes(info), 1))
    begins = range(0, rows, step) or range(1)
    nbytes = info.nbytes // max(rows, 1)
    return [
        Unit(
            (name,),
            None,
            nbytes * min(step, rows - begin),
            (begin, min(step, rows - begin)),
            part_key(name, i, len(begins)),
        )
        for i, begin in enumerate(begins)
    ]


def parts(units: Sequence[Unit], source: TensorSource) -> dict[str, list[int]]:
    """Bytes of the pieces of every tensor that is passed on."""
    sizes: dict[str, list[int]] = {}
    for unit in units:
        if unit.fmt is None:
            sizes.setdefault(unit.name, []).append(unit.rows[1] * row_bytes(source.info(unit.name)))
    return sizes


def make_plan(
    source: TensorSource,
    fmt: Format,
    exclude: Iterable[str],
    rules: Mapping[str, str] | None = None,
    *,
    tied: bool,
    hidden: int = 0,
) -> Plan:
    """Sort tensors into quantized and kept. `rules`: shell pattern on module names -> format name or `bf16`, the first
    match wins; `hidden`: features of the model, to tell how stacked experts lie.

    Raises ConfigError for a pattern that matches no module or parts what a runtime fuses, CheckpointError for a shape
    that the format cannot hold.
    """
    matrices = [name for name in source.names() if _is_matrix(name, source.info(name))]
    for name in matrices:
        if name.endswith("gate_up_proj") and len(source.info(name).shape) == 3:
            stacked_experts.require_inputs_first(name, source.info(name), hidden)
    patterns = {**dict.fromkeys(exclude, BF16), **(rules or {})}
    modules = [fusion.module(name) for name in matrices] + (["lm_head"] if tied else [])
    _require_matches(patterns, modules)
    chosen = {name: _chosen(fusion.module(name), patterns, fmt) for name in matrices}
    formats = {name: own for name, own in chosen.items() if own}
    for name, own in formats.items():
        _require_block(name, stacked_experts.as_rows(source.info(name)), own)
    # a tied lm_head is the embedding: stored once, under the embedding's name
    copied = [name for name in source.names() if name not in formats and not (tied and name == "lm_head.weight")]
    unquantized = {fusion.module(name) for name, own in chosen.items() if own is None} | (
        {"lm_head"} if tied else set()
    )
    return Plan(formats, copied, sorted(unquantized))


def outputs(units: Sequence[Unit], source: TensorSource, layout: Layout) -> dict[str, TensorInfo]:
    """Every tensor that will be written but KV scales, unit by unit, so that most shards are made of whole units."""
    written: dict[str, TensorInfo] = {}
    for unit in units:
        for name in unit.weights:
            written |= {place.name: place.info for place in places(name, unit, source, layout).values()}
    return written


def places(name: str, unit: Unit, source: TensorSource, layout: Layout) -> Mapping[Role, Place]:
    """Where the values made of one tensor go, by role."""
    info = stacked_experts.as_rows(source.info(name)) if unit.fmt else source.info(name)
    if unit.fmt is None:
        return {"weight": Place(name, passed_on(info))}
    return layout.places(fusion.module(name), unit.fmt, info)


def kv_outputs(source: TensorSource, layout: Layout) -> dict[str, TensorInfo]:
    """The KV scales of every attention. Raises CheckpointError when keys have no projection of their own to name them
    by."""
    keys = [name for name in source.names() if name.endswith(".k_proj.weight")]
    if not keys:
        raise CheckpointError(
            "quantize.kv_cache", "fp8, but no k_proj in this model", "attention with a k_proj", "use kv_cache=none"
        )
    one = torch.ones(())
    attentions = [name for key in keys if (name := attention_of([key]))]
    scales = [layout.kv_scale(name, which, one) for name in attentions for which in KV]
    return {name: TensorInfo(value.dtype, tuple(value.shape)) for name, value in scales}


def attention_of(weights: Iterable[str]) -> str | None:
    """The attention module among the weights of a layer: the parent of `k_proj`; None if there is none."""
    return next((fusion.module(name).rpartition(".")[0] for name in weights if name.endswith(".k_proj.weight")), None)


def _is_matrix(name: str, info: TensorInfo) -> bool:
    if not info.dtype.is_floating_point:
        return False
    if len(info.shape) == 3 and fusion.module(name).rpartition(".")[2] in ("gate_up_proj", "down_proj"):
        return True  # stacked experts
    return len(info.shape) == 2 and name.endswith(".weight")


def _chosen(module: str, patterns: Mapping[str, str], default: Format) -> Format | None:
    if any(fnmatchcase(module, never) for never in _NEVER):
        return None
    rule = next((value for pattern, value in patterns.items() if fnmatchcase(module, pattern)), default.name)
    return None if rule == BF16 else FORMATS[rule]


def _require_matches(patterns: Mapping[str, str], modules: Sequence[str]) -> None:
    for pattern, value in patterns.items():
        if not any(fnmatchcase(module, pattern) for module in modules):
            raise ConfigError(
                "quantize pattern",
                pattern,
                "a pattern that matches a module of this model",
                f"modules are like {modules[0]}" if modules else "look at the model: it has no matrices",
            )
        if value != BF16 and value not in FORMATS:
            raise ConfigError(
                f"quantize.rules[{pattern}]", value, f"bf16 or one of {', '.join(FORMATS)}", "mend the rule"
            )


def _require_block(name: str, info: TensorInfo, fmt: Format) -> None:
    if info.shape[-1] % fmt.block:
        raise CheckpointError(
            f"tensor {name}",
            f"{info.shape[-1]} input features",
            f"a multiple of {fmt.block}, the block of {fmt.name}",
            f"add {fusion.module(name)} to quantize.exclude, or use quantize.format=fp8",
        )


def _nbytes(source: TensorSource, names: Iterable[str]) -> int:
    return sum(source.info(name).nbytes for name in names)
