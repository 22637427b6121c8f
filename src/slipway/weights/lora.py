"""PEFT LoRA adapters: which base tensor each of their tensors changes, and the one rounding convention of a merge.

    delta = fp32(s * sum_k B[i, k] A[k, j])         A [r, in], B [out, r], W [out, in]
    W'    = bf16(fp32(fp32(W) + delta))

The merge is the correctly rounded one: the sum over the rank and its product with the fp64 value of s are exact, and
delta is that number rounded once to fp32 (to nearest, ties to even; a zero is +0). The factors are fp32, or fp16 or
bf16, which fp32 holds exactly; of an fp64 factor its fp32 rounding counts. So the bytes depend on neither the
processor, the BLAS, the number of threads, nor the rows that are merged at a time (`rounded_merge` has the way there).
PEFT's merge into the base upcast to fp32 sums in fp32 in an order of its own: rounded to bf16 it is at most one step
away, and in few elements. Adding in bf16 (PEFT's merge into a bf16 base) rounds twice and gives other bits.

Every tensor of the adapter must change a tensor of the base, every module that the adapter targets must have its pair,
and something must change: else an AdapterError names the tensor, the module or the adapter. `updates` has the kinds of
change, `vocabulary` what becomes of heads that are embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from slipway.errors import AdapterError, CheckpointError
from slipway.weights.adapter_config import CONFIG, REFIT, RETRAIN, AdapterConfig
from slipway.weights.adapter_targets import require_complete, require_mergeable
from slipway.weights.adapter_tensors import Part, Role, is_as_peft_saves, open_tensors, parts
from slipway.weights.base_names import BaseNames
from slipway.weights.pair_checks import require_bias_of_pair, require_matrix, require_named
from slipway.weights.saved_experts import saved_rows
from slipway.weights.updates import BiasSum, Dora, Product, Replacement, Stacked, TokenRows, Update

_NO_BIAS = "train with lora_bias=false, or serve the base with the adapter beside it"
_SIDES: dict[Role, Role] = {"A": "B", "B": "A", "embedding_A": "embedding_B", "embedding_B": "embedding_A"}


class LoraAdapter:
    """A PEFT adapter directory. Raises AdapterError, naming key or tensor, for whatever cannot be merged."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = AdapterConfig(directory)
        self.tensors = open_tensors(directory)

    def names(self) -> list[str]:
        """Names of the adapter's tensors, as stored."""
        return self.tensors.names()

    def read(self, name: str) -> torch.Tensor:
        """One adapter tensor in fp32. Raises AdapterError when it holds NaN or Inf."""
        try:
            return self.tensors.read(name).float()
        except CheckpointError as err:
            raise AdapterError(
                err.thing, err.value, err.expected, "train again with a lower learning rate, or copy the file again"
            ) from err

    def is_as_peft_saves(self) -> bool:
        """Whether PEFT itself would load all of it: it passes over names of another form without an error."""
        return all(is_as_peft_saves(name) for name in self.names())

    def match(self, base: BaseNames) -> dict[str, Update]:
        """Base tensor -> its update. A head that the base has as its embedding is named as the class would store it."""
        updates = _Match(self, base).updates()
        _require_changes(self, updates)
        return updates


def _require_changes(adapter: LoraAdapter, updates: Mapping[str, Update]) -> None:
    if not any(update.changes(adapter.tensors) for update in updates.values()):
        value = f"changes nothing: {len(updates)} tensors, and every product of their factors is zero"
        step = "check that it was trained and saved whole; an untrained adapter has zeros in lora_B"
        raise AdapterError(f"adapter {adapter.directory}", value, "a product that is not zero", step)


class _Match:
    """The parts of one adapter, laid upon the names of one base."""

    def __init__(self, adapter: LoraAdapter, base: BaseNames) -> None:
        self._adapter, self._config, self._base = adapter, adapter.config, base
        self._parts = parts(adapter.names())
        self._updates: dict[str, Update] = {}

    def updates(self) -> dict[str, Update]:
        require_mergeable(self._adapter.directory, self._config, self._base)
        for part, name in self._parts.items():
            if part.role == "whole":
                self._whole(part, name)
            elif part.role == "tokens":
                self._tokens(part, name)
            elif part.role in _SIDES:
                self._require_other_side(part, name)
        for part, name in self._parts.items():
            if part.role in ("A", "embedding_A"):
                self._pair(part, name)
        for part, name in self._parts.items():
            if part.role == "bias_B":
                self._bias(part, name)
            elif part.role == "magnitude":
                self._require_pair(part, name)
        require_complete(self._adapter.directory, self._config, self._parts, self._base, self._updates)
        return self._updates

    def _require_pair(self, part: Part, name: str) -> None:
        if not self._config.get("use_dora"):
            raise _error(name, "a magnitude", f"none: use_dora is off in {CONFIG}", REFIT)
        if not any(Part(part.module, role, part.depth) in self._parts for role in ("A", "embedding_A")):
            raise _error(name, "has no lora_A beside it", "a pair of lora_A and lora_B", REFIT)

    def _put(self, target: str, update: Update) -> None:
        if target in self._updates:
            other = self._updates[target].parts[0]
            raise _error(update.parts[0], f"changes {target}, as {other} does", "one change of a tensor", RETRAIN)
        self._updates[target] = update

    def _whole(self, part: Part, name: str) -> None:
        tensor, config = part.module, self._config
        resized = self._base.has_vocabulary(tensor)
        bias = tensor.endswith(".bias") and config.get("bias", "none") != "none"
        if not (part.depth or resized or bias or config.saves(tensor)):
            raise _error(name, "neither lora_A, lora_B nor in modules_to_save", "a LoRA pair of a Linear", RETRAIN)
        if self._base.tensor(tensor) is None and (stored := self._base.stacked(tensor)):
            self._saved_experts(name, stored)
            return
        target = self._target(tensor, name)
        self._check_shape(name, target, self._shape(name), resized=resized)
        self._put(target, Replacement(name))

    def _saved_experts(self, name: str, stored: list[str]) -> None:
        """A parameter of all experts, saved whole, that the base stores under another name or expert by expert."""
        shape, theirs = self._shape(name), self._base_shape(stored[0])
        if self._base.is_rearranged(stored[0]):
            value = f"saved whole, and transformers rearranges {stored[0]} when it loads it"
            raise _error(name, value, "experts that are stored in the order of the class", RETRAIN)
        if len(stored) == 1:
            self._check_shape(name, stored[0], shape)
            self._put(stored[0], Replacement(name))
            return
        for target, update in saved_rows(name, shape, stored, self._base.experts(stored), theirs).items():
            self._put(target, update)

    def _tokens(self, part: Part, name: str) -> None:
        indices = self._config.get("trainable_token_indices")
        if isinstance(indices, dict):
            indices = next((value for key, value in indices.items() if part.module.endswith(key)), None)
        target = self._target(f"{part.module}.weight", name)
        rows, shape = self._base_shape(target), self._shape(name)
        if not indices or shape != (len(indices), *rows[1:]) or max(indices) >= rows[0]:
            expected = f"a row of {target} {list(rows)} for each of trainable_token_indices in {CONFIG}"
            raise _error(name, f"shape {list(shape)}", expected, REFIT)
        self._put(target, TokenRows(name, tuple(indices)))

    def _require_other_side(self, part: Part, name: str) -> None:
        other = _SIDES[part.role]
        if Part(part.module, other, part.depth) not in self._parts:
            raise _error(name, f"has no lora_{other} beside it", "a pair of lora_A and lora_B", REFIT)

    def _pair(self, part: Part, a: str) -> None:
        b = self._parts[Part(part.module, _SIDES[part.role], part.depth)]
        require_matrix(self._adapter.tensors, self._base, part, (a, b))
        if stacked := self._stacked(part):
            self._experts(stacked[0], a, b, stacked[1])
            return
        target = self._target(f"{part.module}.weight", a)
        if len(self._base_shape(target)) == 3:
            self._experts(part.module, a, b, [target])
        else:
            self._matrix(part, a, b, target)

    def _matrix(self, part: Part, a: str, b: str, target: str) -> None:
        require_named(self._config, self._base, part.module, a)
        embedding = part.role == "embedding_A"
        turned = not embedding and self._is_turned(target)
        rank = self._config.rank(part.module)
        shape_a, shape_b = self._shape(a), self._shape(b)
        if len(shape_a) != 2 or len(shape_b) != 2 or shape_a[0] != rank or shape_b[1] != rank:
            raise _error(a, f"{list(shape_a)} with lora_B {list(shape_b)}", f"rank {rank} by {CONFIG}", REFIT)
        delta = (shape_b[0], shape_a[1])
        below = self._updates.pop(target, None)
        replacement = below.name if isinstance(below, Replacement) else None
        against = self._shape(replacement) if replacement else self._base_shape(target)
        self._check_shape(a, target, delta[::-1] if turned or embedding else delta, against)
        product = Product(
            part.module,
            a,
            b,
            self._config.scaling(part.module),
            turned=turned,
            replacement=replacement,
            embedding=embedding,
        )
        magnitude = self._parts.get(Part(part.module, "magnitude", part.depth))
        self._put(target, self._dora(product, magnitude, target) if magnitude else product)

    def _dora(self, product: Product, magnitude: str, target: str) -> Dora:
        outputs = self._shape(product.b)[0]  # of an embedding its features
        if self._shape(magnitude) not in ((outputs,), (outputs, 1)):
            value = f"DoRA of {target}, {list(self._shape(magnitude))}"
            raise _error(magnitude, value, f"the magnitudes of {outputs} outputs", REFIT)
        return Dora(product, magnitude)

    def _stacked(self, part: Part) -> tuple[str, list[str]] | None:
        """Of a pair on parameters without a module of their own: the parameter's name, and the tensors it is made of.

        PEFT wraps the parameters of a module one around the other, in the order of the class: the first one is
        innermost, with the most `base_layer` in its name.
        """
        targets = self._config.get("target_parameters") or []
        parameters = [f"{part.module}.{leaf}" for leaf in ("gate_up_proj", "down_proj")]
        wrapped = [p for p in parameters if any(p == t or p.endswith(f".{t}") for t in targets)]
        if part.depth >= len(wrapped):
            return None
        parameter = wrapped[len(wrapped) - 1 - part.depth]
        stored = self._base.stacked(parameter)
        return (parameter, stored) if stored else None

    def _experts(self, parameter: str, a: str, b: str, stored: list[str]) -> None:
        shapes = [self._base_shape(name) for name in stored]
        rank, shape_a, shape_b = self._config.rank(parameter), self._shape(a), self._shape(b)
        single = len(stored) == 1 and len(shapes[0]) == 3
        experts = shapes[0][0] if single else self._base.experts(stored)
        if len(shape_a) != 2 or shape_a[0] != rank * experts or shape_b != (shape_b[0], rank * experts):
            value = f"{list(shape_a)} with lora_B {list(shape_b)}"
            raise _error(a, value, f"rank {rank} by {CONFIG} for every expert of {stored[0]}", REFIT)
        scaling, delta = self._config.scaling(parameter), (shape_b[0], shape_a[1])
        if single:
            turned = delta != shapes[0][1:] or bool(self._base.inputs_first(stored[0]) and delta == delta[::-1])
            self._check_shape(a, stored[0], delta[::-1] if turned else delta, shapes[0][1:])
            self._put(stored[0], Stacked(parameter, a, b, scaling, experts, turned))
        else:
            self._apart(parameter, a, b, stored, experts)

    def _apart(self, parameter: str, a: str, b: str, stored: list[str], experts: int) -> None:
        """A pair of stacked experts on a base that stores each expert's projections as tensors of their own."""
        outputs, inputs = self._shape(b)[0], self._shape(a)[1]
        count, scaling = len(stored) // experts, self._config.scaling(parameter)
        for i, name in enumerate(stored):
            expert, begin = i // count, (i % count) * (outputs // count)
            self._check_shape(a, name, (outputs // count, inputs), self._base_shape(name))
            rows = (begin, begin + outputs // count) if count > 1 else None
            self._put(name, Product(parameter, a, b, scaling, experts=experts, expert=expert, rows=rows))

    def _bias(self, part: Part, name: str) -> None:
        require_bias_of_pair(self._config, Part(part.module, "B", part.depth) in self._parts, name)
        target = self._base.tensor(f"{part.module}.bias")
        if target is None or self._shape(name) != self._base_shape(target):
            value = f"a bias {list(self._shape(name))} for {part.module}, which has no such bias in the base"
            raise _error(name, value, "a bias of the base to add it to: PEFT does not merge it either", _NO_BIAS)
        self._put(target, BiasSum(name, self._config.scaling(part.module)))

    def _is_turned(self, target: str) -> bool:
        """Whether W is stored [in, out]: as the class says, else as the adapter's fan_in_fan_out does."""
        known = self._base.inputs_first(target)
        return bool(self._config.get("fan_in_fan_out")) if known is None else known

    def _target(self, tensor: str, name: str) -> str:
        """The base's tensor of that name, or the head that the base has as its embedding."""
        target = self._base.tensor(tensor)
        if target is None and self._base.tied_embedding(tensor):
            return next(head for _, head, _ in self._base.vocabulary())
        if target is None and tensor.startswith("base_model.model."):
            step = "merge the inner adapter first, and train or save the outer one on that"
            raise _error(name, "an adapter around a model that has an adapter itself", "one adapter on a base", step)
        if target is None:
            raise _error(name, f"lands on {tensor}, which the base does not have", "a base tensor", REFIT)
        return target

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._adapter.tensors.info(name).shape

    def _base_shape(self, target: str) -> tuple[int, ...]:
        stored = self._base.tensor(target) or self._base.tied_embedding(target) or target
        return self._base.base.info(stored).shape

    def _check_shape(
        self,
        name: str,
        target: str,
        shape: tuple[int, ...],
        against: tuple[int, ...] | None = None,
        *,
        resized: bool = False,
    ) -> None:
        expected = against or self._base_shape(target)
        if shape != expected and not (resized and shape[1:] == expected[1:]):
            raise _error(name, f"makes {list(shape)}", f"{list(expected)}, the shape of {target}", REFIT)


def _error(name: str, value: str, expected: str, step: str) -> AdapterError:
    return AdapterError(f"adapter tensor {name}", value, expected, step)
