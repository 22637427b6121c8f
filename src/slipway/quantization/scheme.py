"""What was decided for a model, and what a layout has to say of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch

from slipway.errors import ConfigError
from slipway.quantization import fusion
from slipway.quantization.formats import Format, Role
from slipway.weights.shards import TensorInfo


class Place(NamedTuple):
    """Where a role's value goes."""

    name: str
    info: TensorInfo


@dataclass(frozen=True)
class Scheme:
    """`formats`: every quantized module's, in the checkpoint's order, an expert's projections each by name;
    `unquantized`: modules left in bf16; `kv_cache`: whether keys and values get FP8 scales; `version` of this
    package; `paths`: module as stored -> its path in the model's class, where they differ: some loaders look a module
    up by the one, some by the other."""

    formats: Mapping[str, Format]
    unquantized: Sequence[str]
    kv_cache: bool
    version: str
    paths: Mapping[str, str] = field(default_factory=dict)

    def both(self, modules: Iterable[str]) -> list[str]:
        """The modules under every name that a loader may use, sorted."""
        return sorted({name for module in modules for name in (module, self.paths.get(module, module))})

    def by_format(self) -> dict[str, tuple[Format, list[str]]]:
        """Modules of each format, by its name, in order."""
        groups: dict[str, tuple[Format, list[str]]] = {}
        for module, fmt in self.formats.items():
            groups.setdefault(fmt.name, (fmt, []))[1].append(module)
        return groups


class Layout(Protocol):
    """How quantized weights lie on disk: names, shapes, and the documents that describe them."""

    @property
    def name(self) -> str:
        """The layout's name in the config."""

    def require(self, scheme: Scheme) -> None:
        """Raise ConfigError for what no runtime loads from this layout, or loads wrongly."""

    def places(self, module: str, fmt: Format, info: TensorInfo) -> dict[Role, Place]:
        """All that will be written for the weight of `module`, [O, I] or, of experts stacked in one tensor, [E, O,
        I]."""

    def store(self, fmt: Format, role: Role, value: torch.Tensor) -> torch.Tensor:
        """A role's value, of the shape that `fmt.outputs` says or a scalar, as it goes to disk."""

    def decode(self, fmt: Format, stored: Mapping[Role, torch.Tensor]) -> torch.Tensor:
        """fp32 [O, I] that a runtime computes with, from what is on disk."""

    def kv_scale(self, attention: str, which: Literal["k", "v"], amax: torch.Tensor) -> tuple[str, torch.Tensor]:
        """Name and value for the keys or values of an attention module, from their largest magnitude."""

    def documents(self, scheme: Scheme) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """(`quantization_config` of config.json, `hf_quant_config.json` if there is one)."""


def require_one_format_a_unit(scheme: Scheme) -> None:
    """Raise ConfigError when projections that a runtime fuses, or the experts of a layer, differ in format."""
    quantized = {module: fmt.name for module, fmt in scheme.formats.items()}
    for unit in fusion.units([*quantized, *scheme.unquantized]):
        names = {quantized.get(module, "bf16") for module in unit}
        if len(names) > 1:
            raise ConfigError(
                f"formats of {', '.join(unit[:4])}",
                ", ".join(sorted(names)),
                "one: runtimes run them as one matmul",
                "give them the same format, or keep all of them in bf16",
            )
