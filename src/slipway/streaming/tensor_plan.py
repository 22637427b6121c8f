"""What becomes of every tensor of a checkpoint, decided from headers alone, before a byte of weights is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

import torch

from slipway.config.quantize import QuantizeConfig
from slipway.errors import CheckpointError, ConfigError
from slipway.quantization import formats, fusion, stacked_experts
from slipway.quantization.formats import FORMATS, Format
from slipway.quantization.layouts import Layout, Place, Scheme
from slipway.weights.architecture import Role
from slipway.weights.shard_writer import part_key
from slipway.weights.shards import TensorInfo, WeightSource, natural
from slipway.weights.weight_roles import WeightRoles

KV: tuple[Literal["k", "v"], ...] = ("k", "v")
PIECE = 1 << 27  # bytes of a large tensor that one thread passes on
BF16 = "bf16"  # the rule that keeps a module as it is
QUANTIZABLE: tuple[Role, ...] = ("linear", "head", "experts_in_first")
HEAD = "lm_head"  # this pattern means the output projection, whatever a checkpoint calls it
_SMALL_GATES = ("*linear_attn.in_proj_a*", "*linear_attn.in_proj_b*")  # Linears that ModelOpt keeps all the same
DEFAULT_EXCLUDE = frozenset(QuantizeConfig.model_fields["exclude"].default)


@dataclass(frozen=True)
class Module:
    """A module whose weight may be quantized, and the names by which patterns know it."""

    role: Role
    aliases: tuple[str, ...]

    def matches(self, pattern: str) -> bool:
        """Whether a shell pattern fits one of its names."""
        return any(fnmatchcase(alias, pattern) for alias in self.aliases)


@dataclass(frozen=True)
class Unit:
    """Tensors that are made together: weights that share a scalar, or one tensor that is passed on."""

    weights: tuple[str, ...]
    fmt: Format | None  # None: passed on in bf16
    nbytes: int  # as read from the source
    rows: tuple[int, int] = (0, 0)  # passed on: the first row and the number of rows
    key: str = ""  # passed on: what the writer calls them
    as_stored: bool = False  # passed on: byte for byte, also floats that are not bf16

    @property
    def name(self) -> str:
        """The first weight, which names the unit."""
        return self.weights[0]


@dataclass(frozen=True)
class Plan:
    """`formats`: quantized weight -> its format; `copied` tensors stay bf16, those in `as_stored` as they are; the
    config names `unquantized` modules; `paths`: module as stored -> its path in the class, where they differ."""

    formats: dict[str, Format]
    copied: list[str]
    unquantized: list[str]
    as_stored: frozenset[str] = frozenset()
    paths: Mapping[str, str] = field(default_factory=dict)

    @property
    def linears(self) -> list[str]:
        """Names of the quantized weights."""
        return list(self.formats)

    def scheme(self, version: str, *, kv_cache: bool) -> Scheme:
        """What the config of the checkpoint says of it; `version` is of this package."""
        return Scheme(
            {fusion.module(name): fmt for name, fmt in self.formats.items()},
            self.unquantized,
            kv_cache,
            version,
            self.paths,
        )

    def units(self, source: WeightSource) -> list[Unit]:
        """In the order of the checkpoint, each unit at its first member's place."""
        alike: dict[Format, list[str]] = {}
        for name, fmt in self.formats.items():
            alike.setdefault(fmt, []).append(name)
        units = [unit for name in self.copied for unit in _passed_on(name, source, name in self.as_stored)]
        for fmt, names in alike.items():
            units += [Unit(tuple(group), fmt, _nbytes(source, group)) for group in fusion.groups(names, fmt.sharing)]
        return sorted(units, key=lambda unit: (natural(unit.name), unit.rows))


def passed_on(name: str, source: WeightSource, as_stored: bool) -> TensorInfo:
    """As a tensor is written: floating tensors in bf16 unless they stay as stored. A merged source reads every float as
    bf16: what lies on disk, it says apart."""
    stored = source.as_stored(name) if as_stored else None
    info = stored or source.info(name)
    convert = info.dtype.is_floating_point and not stored
    return TensorInfo(torch.bfloat16, info.shape) if convert else info


def _row_bytes(info: TensorInfo) -> int:
    return TensorInfo(info.dtype, info.shape[-1:]).nbytes


def _passed_on(name: str, source: WeightSource, as_stored: bool) -> list[Unit]:
    """Pieces of at most PIECE bytes: an embedding is work for several threads."""
    info, written = source.info(name), passed_on(name, source, as_stored)
    rows = TensorInfo(torch.uint8, info.shape[:-1]).numel
    step = max(1, PIECE // max(_row_bytes(written), 1))
    begins = range(0, rows, step) or range(1)
    nbytes = info.nbytes // max(rows, 1)
    return [
        Unit(
            (name,),
            None,
            nbytes * min(step, rows - begin),
            (begin, min(step, rows - begin)),
            part_key(name, i, len(begins)),
            as_stored,
        )
        for i, begin in enumerate(begins)
    ]


def parts(units: Sequence[Unit], source: WeightSource) -> dict[str, list[int]]:
    """Bytes of the pieces of every tensor that is passed on."""
    sizes: dict[str, list[int]] = {}
    for unit in units:
        if unit.fmt is None:
            nbytes = unit.rows[1] * _row_bytes(passed_on(unit.name, source, unit.as_stored))
            sizes.setdefault(unit.name, []).append(nbytes)
    return sizes


def make_plan(
    source: WeightSource,
    fmt: Format,
    exclude: Iterable[str],
    rules: Mapping[str, str] | None = None,
    *,
    weights: WeightRoles,
    formats_by_name: Mapping[str, Format] = FORMATS,
) -> Plan:
    """Sort tensors into quantized and kept, by what `weights` says they are. `rules`: shell pattern on module names ->
    format name or `bf16`, the first match wins. `formats_by_name`: what the names mean, `SHARING_FORMATS` where FP8
    scales are shared; `fmt` is one of them.

    Raises ConfigError for a pattern that matches no module or parts what a runtime fuses, CheckpointError for a shape
    that the format cannot hold.
    """
    roles = {name: role for name, role in weights.roles.items() if name not in weights.repeated}
    named = {
        name: Module(role, _aliases(name, role, weights))
        for name, role in roles.items()
        if _has_module(name, role, source.info(name))
    }
    patterns = {**dict.fromkeys(exclude, BF16), **(rules or {})}
    heads = [Module("embedding", (head, HEAD)) for head in weights.tied_heads]
    towers = _require_matches(patterns, [*named.values(), *heads])
    chosen = {name: _chosen(module, patterns, fmt, towers, formats_by_name) for name, module in named.items()}
    quantized = {name: own for name, own in chosen.items() if own}
    for name, own in quantized.items():
        _require_block(name, stacked_experts.as_rows(source.info(name)), own)
    copied = [name for name in source.names() if name not in quantized and name not in weights.repeated]
    unquantized = {fusion.module(name) for name, own in chosen.items() if own is None} | set(weights.tied_heads)
    return Plan(quantized, copied, sorted(unquantized), weights.fp32 & set(copied), weights.paths)


def outputs(units: Sequence[Unit], source: WeightSource, layout: Layout) -> dict[str, TensorInfo]:
    """Every tensor that will be written but KV scales, unit by unit, so that most shards are made of whole units."""
    written: dict[str, TensorInfo] = {}
    for unit in units:
        for name in unit.weights:
            written |= {place.name: place.info for place in places(name, unit, source, layout).values()}
    return written


def places(name: str, unit: Unit, source: WeightSource, layout: Layout) -> Mapping[formats.Role, Place]:
    """Where the values made of one tensor go, by role."""
    if unit.fmt is None:
        return {"weight": Place(name, passed_on(name, source, unit.as_stored))}
    return layout.places(fusion.module(name), unit.fmt, stacked_experts.as_rows(source.info(name)))


def kv_outputs(weights: WeightRoles, layout: Layout) -> dict[str, TensorInfo]:
    """The KV scales of every attention of the language model. Raises CheckpointError when keys have no projection of
    their own to name them by."""
    keys = [name for name, role in weights.roles.items() if role == "linear" and name.endswith(".k_proj.weight")]
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


def _has_module(name: str, role: Role, info: TensorInfo) -> bool:
    """Whether a tensor is the weight of a module that the documents of a quantized checkpoint must name: some readers
    take every `weight` for a Linear's that is neither listed nor called a norm."""
    if not info.dtype.is_floating_point:
        return False
    if role in (*QUANTIZABLE, "experts_out_first"):
        return True
    elsewhere = role in ("tower", "outside", "mtp") or "norm" not in name.lower()  # `ln_f` is a Linear to such a reader
    return name.endswith(".weight") and (len(info.shape) > 1 or elsewhere)


def _aliases(name: str, role: Role, weights: WeightRoles) -> tuple[str, ...]:
    """Names by which patterns know a module: as stored, as the class has it, `lm_head` for any output projection."""
    module = fusion.module(name)
    return tuple(dict.fromkeys((module, weights.path(module), *((HEAD,) if role == "head" else ()))))


def _chosen(
    module: Module,
    patterns: Mapping[str, str],
    default: Format,
    towers: Mapping[str, str],
    formats_by_name: Mapping[str, Format],
) -> Format | None:
    if module.role == "tower":
        rule = next((value for pattern, value in towers.items() if module.matches(pattern)), BF16)
    elif module.role not in QUANTIZABLE or any(module.matches(gate) for gate in _SMALL_GATES):
        return None
    else:
        rule = next((value for pattern, value in patterns.items() if module.matches(pattern)), default.name)
    return None if rule == BF16 else formats_by_name[rule]


def _require_matches(patterns: Mapping[str, str], modules: Sequence[Module]) -> dict[str, str]:
    """Raise ConfigError for a pattern that no module has, or only modules that are always kept. Returns the patterns
    that name modules of towers alone, which are quantized when they are asked for so.

    A default pattern may match nothing: a model without that module has nothing to keep.
    """
    towers = {}
    for pattern, value in patterns.items():
        roles = {module.role for module in modules if module.matches(pattern)}
        if not roles and not (value == BF16 and pattern in DEFAULT_EXCLUDE):
            raise ConfigError(
                "quantize pattern",
                pattern,
                "a pattern that matches a module of this model",
                f"modules are like {modules[0].aliases[0]}" if modules else "look at the model: it has no matrices",
            )
        if value != BF16 and value not in FORMATS:
            raise ConfigError(
                f"quantize.rules[{pattern}]", value, f"bf16 or one of {', '.join(FORMATS)}", "mend the rule"
            )
        if value != BF16 and not roles & {*QUANTIZABLE, "tower"}:
            raise ConfigError(
                f"quantize.rules[{pattern}]",
                f"{value} for modules that are kept: {', '.join(sorted(roles))}",
                "modules that a runtime multiplies by in a quantized format",
                "take the rule out",
            )
        if roles == {"tower"}:
            towers[pattern] = value
    return towers


def _require_block(name: str, info: TensorInfo, fmt: Format) -> None:
    if info.shape[-1] % fmt.block:
        raise CheckpointError(
            f"tensor {name}",
            f"{info.shape[-1]} input features",
            f"a multiple of {fmt.block}, the block of {fmt.name}",
            f"add {fusion.module(name)} to quantize.exclude, or use quantize.format=fp8",
        )


def _nbytes(source: WeightSource, names: Iterable[str]) -> int:
    return sum(source.info(name).nbytes for name in names)
