"""What a model's class says of its weights: names, ties, orientation, and what each of them is for.

An `Architecture` is what transformers knows of a class, written down: the verified ones in `architecture_table`, made
by `scripts/architectures.py` and compared with transformers by a test; `architecture_probe` makes the others. Numbers
in module paths stand as `#`.

A checkpoint's name becomes the path of a parameter of the class as `transformers.core_model_loading.rename_source_key`
(5.23) does it: every renaming in turn, then at most one converter, then the prefix of the base model is added or taken
away if that makes a known path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Role = Literal[
    "linear",  # the weight of a matmul of the language model, [O, I]
    "experts_out_first",  # those of all experts in one tensor, [E, O, I]
    "experts_in_first",  # the same as [E, I, O]
    "transposed",  # a Conv1D of transformers, [I, O], whatever an adapter's fan_in_fan_out says
    "head",  # the output projection
    "embedding",
    "router",  # chooses experts, or weighs a shared one
    "tower",  # a Linear outside the language model: of a vision or audio tower, a projector or connector
    "outside",  # anything else there
    "mtp",  # layers behind the last: multi-token prediction, which the class does not load
    "other",  # norms, biases, convolutions
    "unknown",  # the class has no such weight
]
_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # a whole part of a dotted name
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Rename:
    """One renaming or converter of transformers: the first match of `pattern` becomes `target`, whose `\\1` is the
    first group inside the branch that matched. Under `scope` only: a part of the model, with or without its prefix.
    """

    pattern: str
    target: str
    scope: str | None = None
    transposes: bool = False  # a converter that exchanges the last two axes
    opaque: bool = False  # a converter that does more than stack, join, split and transpose

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def apply(self, name: str, base: str) -> str | None:
        """`name` renamed, None where nothing matches; `base` is the prefix of the base model."""
        prefix = self._prefix(name, base)
        if prefix is None or not (match := self._compiled.search(name.removeprefix(prefix))):
            return None
        target = self.target
        if r"\1" in target:
            branch = next(key for key, value in match.groupdict().items() if value is not None)
            target = target.replace(r"\1", match.group(self._compiled.groupindex[branch] + 1))
        return prefix + name.removeprefix(prefix).replace(match.group(0), target, 1)

    def _prefix(self, name: str, base: str) -> str | None:
        if self.scope is None:
            return ""
        scope, root = (f"{part}." if part else "" for part in (self.scope, base))
        return next((prefix for prefix in (root + scope, scope) if name.startswith(prefix)), None)


@dataclass(frozen=True)
class Architecture:
    """A class of transformers. Paths are those of its modules, without `.weight`."""

    name: str
    model_type: str
    base: str  # prefix of the base model
    modules: Mapping[Role, tuple[str, ...]]  # with weights of two axes or more
    decoder: str = ""  # path of the language model where there is more; "" else
    ties: Mapping[str, str] = field(default_factory=dict)  # head -> embedding, when the config ties them
    tied_by_default: bool = False
    tied_by_text: bool = False  # the config's class also takes the key from the text part
    fp32: tuple[str, ...] = ()  # parts of names that are fp32 also in a bf16 model
    fp32_in_half: tuple[str, ...] = ()  # and those that are fp32 in an fp16 model only
    renames: tuple[Rename, ...] = ()
    converters: tuple[Rename, ...] = ()

    @cached_property
    def _roles(self) -> dict[str, Role]:
        return {path: role for role, paths in self.modules.items() for path in paths}

    def path(self, name: str) -> str:
        """The path of the module that a checkpoint's tensor belongs to, or of the stacked parameter: `x.q_proj.weight`
        -> `x.q_proj`; the name itself, renamed as far as it goes, where the class has no such module."""
        return self._located(name)[0]

    def role(self, name: str, axes: int, layers: int | None = None) -> Role:
        """What a checkpoint's tensor of so many axes is; `layers`: how many decoder layers the config has."""
        layer = _LAYER.search(name)
        path, converter = self._located(name)
        outside = bool(self.decoder) and not f"{path}.".startswith(f"{self.decoder}.")
        if name.startswith("mtp.") or (layer and layers is not None and int(layer[1]) >= layers and not outside):
            return "mtp"
        role = self._roles.get(_pattern(path), "unknown")
        if role == "unknown" and outside:
            return "outside"
        if role == "tower":
            return "tower" if axes == 2 else "outside"
        if axes < 2 or name.endswith("bias") or (converter and converter.opaque):
            return "other"
        if role in ("experts_out_first", "experts_in_first"):
            outputs_first = (role == "experts_out_first") != (converter is not None and converter.transposes)
            if axes == 2:
                return "linear" if outputs_first else "transposed"
            return "experts_out_first" if outputs_first else "experts_in_first"
        return role

    def is_rearranged(self, name: str) -> bool:
        """Whether transformers reorders the values of a checkpoint's tensor when it loads it."""
        converter = self._located(name)[1]
        return converter is not None and (converter.transposes or converter.opaque)

    def is_fp32(self, name: str) -> bool:
        """Whether the class keeps a tensor of that name in fp32 also when everything else is bf16."""
        path = self._renamed(name)[0]
        return any(re.search(rf"(?:^|\.){re.escape(part)}(?:\.|$)", path) for part in self.fp32)

    @cached_property
    def _places(self) -> dict[str, tuple[str, Rename | None]]:
        return {}

    def _located(self, name: str) -> tuple[str, Rename | None]:
        """(path of the module, the converter on the way there)."""
        if name not in self._places:
            self._places[name] = self._locate(name)
        return self._places[name]

    def _locate(self, name: str) -> tuple[str, Rename | None]:
        renamed, converter = self._renamed(name)
        path = renamed.removesuffix(".weight").removesuffix(".bias")
        if self.base and path.startswith(f"{self.base}.") and self._known(path.removeprefix(f"{self.base}.")):
            path = path.removeprefix(f"{self.base}.")
        elif self.base and self._known(f"{self.base}.{path}"):
            path = f"{self.base}.{path}"
        return path, converter

    def _renamed(self, name: str) -> tuple[str, Rename | None]:
        for rename in self.renames:
            name = rename.apply(name, self.base) or name
        for converter in self.converters:
            if converted := converter.apply(name, self.base):
                return converted, converter
        return name, None

    def _known(self, path: str) -> bool:
        return _pattern(path).removesuffix("_bias") in self._roles


def _pattern(path: str) -> str:
    return _NUMBER.sub("#", path)
