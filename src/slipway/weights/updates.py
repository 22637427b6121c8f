"""What an adapter does to one tensor of its base: how the new tensor comes to be, in the terms of `MergeRecipe`.

    Product       W + s * B @ A             and turned, [in, out], where W is stored so
    Stacked       W[e] + s * B[e] @ A[e]    for every expert e of a tensor of three axes
    Replacement   another tensor
    TokenRows     other rows at some tokens
    BiasSum       b + s * bias of lora_B
    Dora          m / |W + s * B @ A| * (W + s * B @ A), in fp64 and rounded once; norms over the inputs of an output,
                  of an embedding [V, H] over the tokens of a feature

The products of a Product and a Stacked are merged by the convention of `rounded_merge`, whoever reads them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from slipway.weights.adapter_tensors import AdapterTensors
from slipway.weights.computed import RowBlocks, merged_rows
from slipway.weights.rounded_merge import merge
from slipway.weights.shards import LowRank, MergeRecipe, TensorInfo

_BLOCK = 1 << 20  # elements of a block of DoRA: 8 MB in fp64


class Update(Protocol):
    """A change of one tensor of the base."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the adapter's tensors that it is made of."""

    def recipe(self, below: MergeRecipe, tensors: AdapterTensors) -> MergeRecipe:
        """How the new tensor comes to be; `below`: how the base's does."""

    def changes(self, tensors: AdapterTensors) -> bool:
        """Whether it changes anything: a product with a factor of zeros does not."""


@dataclass(frozen=True)
class Product:
    """s * B @ A, B [O, r], A [r, I]. `module`: the adapter's name of it. Of `experts` stacked in the pair it is number
    `expert`, and of that one's outputs the rows `rows`. `replacement`: the tensor that stands for the base's own.

    `embedding`: the factors are those of an embedding, A [r, V] and B [H, r], and W is [V, H].
    """

    module: str
    a: str
    b: str
    scaling: float
    turned: bool = False
    experts: int = 1
    expert: int = 0
    rows: tuple[int, int] | None = None
    replacement: str | None = None
    embedding: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the adapter's tensors that it is made of."""
        return (self.a, self.b, *([self.replacement] if self.replacement else []))

    def recipe(self, below: MergeRecipe, tensors: AdapterTensors) -> MergeRecipe:
        """The base's recipe, or the replacement, with one more product."""
        if self.replacement:
            below = MergeRecipe(tensors, self.replacement, ())
        return MergeRecipe(below.stored, below.name, (*below.updates, self.product(tensors)))

    def product(self, tensors: AdapterTensors) -> LowRank:
        """The factors in fp32, as the base stores its weight."""
        a, b = factors(tensors, self.a, self.b, self.experts, self.expert)
        if self.rows:
            b = b[slice(*self.rows)].contiguous()
        return turned(a, b, self.scaling) if self.turned or self.embedding else LowRank(a, b, self.scaling)

    def changes(self, tensors: AdapterTensors) -> bool:
        """Whether no factor is zero."""
        a, b = factors(tensors, self.a, self.b, self.experts, self.expert)
        return self.scaling != 0 and bool(a.any()) and bool(b.any())


def factors(tensors: AdapterTensors, a: str, b: str, experts: int, expert: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A [r, I] and B [O, r] of one expert, fp32. PEFT keeps A of all as [experts * r, I], B as [O, r * experts] with
    the expert counting fastest (peft/tuners/lora/layer.py, ParamWrapper.get_delta_weight)."""
    whole_a, whole_b = tensors.read(a).float(), tensors.read(b).float()
    if experts == 1:
        return whole_a, whole_b
    rank = whole_a.shape[0] // experts
    return whole_a[expert * rank : (expert + 1) * rank].contiguous(), whole_b[:, expert::experts].contiguous()


def turned(a: torch.Tensor, b: torch.Tensor, scaling: float) -> LowRank:
    """The product for a weight that is stored [in, out]."""
    return LowRank(b.T.contiguous(), a.T.contiguous(), scaling)


@dataclass(frozen=True)
class Stacked:
    """A product for every expert of a tensor [experts, .., ..]."""

    module: str
    a: str
    b: str
    scaling: float
    experts: int
    turned: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the adapter's tensors that it is made of."""
        return (self.a, self.b)

    def recipe(self, below: MergeRecipe, tensors: AdapterTensors) -> MergeRecipe:
        """A tensor whose experts are merged one at a time, when they are read."""
        shape = below.info.shape
        whole_a, whole_b = tensors.read(self.a).float(), tensors.read(self.b).float()
        rank = whole_a.shape[0] // self.experts

        def expert(begin: int, end: int) -> torch.Tensor:
            at = begin // shape[1]
            a, b = whole_a[at * rank : (at + 1) * rank].contiguous(), whole_b[:, at :: self.experts].contiguous()
            update = turned(a, b, self.scaling) if self.turned else LowRank(a, b, self.scaling)
            return merge(merged_rows(below, begin, end), update)

        return MergeRecipe(RowBlocks(TensorInfo(torch.bfloat16, shape), shape[1], expert), below.name, ())

    def unchanged(self, tensors: AdapterTensors) -> list[int]:
        """The experts whose product is zero: those that no token of the training reached."""
        rank = tensors.info(self.a).shape[0] // self.experts
        a = tensors.read(self.a).reshape(self.experts, rank, -1).flatten(1).any(1)
        b = tensors.read(self.b).reshape(-1, rank, self.experts).flatten(0, 1).any(0)
        return [i for i in range(self.experts) if self.scaling == 0 or not bool(a[i] and b[i])]

    def changes(self, tensors: AdapterTensors) -> bool:
        """Whether the product of an expert is not zero."""
        return len(self.unchanged(tensors)) < self.experts


@dataclass(frozen=True)
class Replacement:
    """A whole tensor: of modules_to_save, a trained bias, a resized embedding, or the base's own under a pair."""

    name: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the adapter's tensors that it is made of."""
        return (self.name,)

    def recipe(self, below: MergeRecipe, tensors: AdapterTensors) -> MergeRecipe:  # noqa: ARG002
        """The adapter's tensor."""
        return MergeRecipe(tensors, self.name, ())

    def changes(self, tensors: AdapterTensors) -> bool:  # noqa: ARG002
        """A whole tensor counts as a change."""
        return True


@dataclass(frozen=True)
class TokenRows:
    """Rows of an embedding at `tokens`, in the order of the rows of `name`."""

    name: str
    tokens: tuple[int, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the adapter's tensors that it is made of."""
        return (self.name,)

    def recipe(self, below: MergeRecipe, tensors: AdapterTensors) -> MergeRecipe:
        """The base's rows in bf16, some of them put over it."""
        rows = tensors.read(self.name).to(torch.bfloat16)
        tokens = torch.tensor(self.tokens)

        def block(begin: int, end: int) -> torch.Tensor:
            merged, inside = merged_rows(below, begin, end).to(torch.bfloat16), (tokens >= begin) & (tokens < end)
            replaced: torch.Tensor = merged.index_copy(0, tokens[inside] - begin, rows[inside])
            return replaced

        return MergeRecipe(_in_blocks(below.info.shape, block), below.name, ())

    def changes(self, tensors: AdapterTensors) -> bool:  # noqa: ARG002
        """Trained rows count as a change."""
        return bool(self.tokens)


@dataclass(frozen=True)
class BiasSum:
    """b + s * the bias of lora_B, in fp64, rounded once."""

    name: str
    scaling: float

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the adapter's tensors that it is made of."""
        return (self.name,)

    def recipe(self, below: MergeRecipe, tensors: AdapterTensors) -> MergeRecipe:
        """The sum, computed when it is read."""
        added = tensors.read(self.name).double() * self.scaling

        def block(begin: int, end: int) -> torch.Tensor:
            return (merged_rows(below, begin, end).double() + added).to(torch.bfloat16)

        return MergeRecipe(_in_blocks(below.info.shape, block), below.name, ())

    def changes(self, tensors: AdapterTensors) -> bool:
        """Whether the bias is not zero."""
        return self.scaling != 0 and bool(tensors.read(self.name).any())


@dataclass(frozen=True)
class Dora:
    """A product and the length `magnitude` that every output's weights get, [O]; every feature's of an embedding, [H]
    (peft/tuners/lora/variants.py)."""

    product: Product
    magnitude: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the adapter's tensors that it is made of."""
        return (*self.product.parts, self.magnitude)

    def recipe(self, below: MergeRecipe, tensors: AdapterTensors) -> MergeRecipe:
        """The scaled weight, computed block by block when it is read. Lengths of columns take a pass of their own."""
        if self.product.replacement:
            below = MergeRecipe(tensors, self.product.replacement, ())
        update, length = self.product.product(tensors), tensors.read(self.magnitude).double().reshape(-1)
        by_rows = not (self.product.turned or self.product.embedding)
        shape, a = below.info.shape, update.a.double()
        step = _rows_of_block(shape)

        def moved(begin: int, end: int) -> torch.Tensor:
            delta = (update.b[begin:end].double() @ a) * update.scaling
            return merged_rows(below, begin, end).double() + delta

        columns = _Once(lambda: _column_norms(moved, shape[0], step))

        def block(begin: int, end: int) -> torch.Tensor:
            weight = moved(begin, end)
            if by_rows:
                scale: torch.Tensor = length[begin:end, None] / torch.linalg.vector_norm(weight, dim=1, keepdim=True)
            else:
                scale = length / columns()
            return (scale * weight).to(torch.bfloat16)

        return MergeRecipe(_in_blocks(shape, block), below.name, ())

    def changes(self, tensors: AdapterTensors) -> bool:  # noqa: ARG002
        """A magnitude counts as a change: it sets lengths."""
        return True


class _Once:
    """A tensor that the first thread to ask for it computes."""

    def __init__(self, make: Callable[[], torch.Tensor]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._value: torch.Tensor | None = None

    def __call__(self) -> torch.Tensor:
        with self._lock:
            if self._value is None:
                self._value = self._make()
            return self._value


def _column_norms(rows: Callable[[int, int], torch.Tensor], count: int, step: int) -> torch.Tensor:
    """Norms [columns] in fp64 of `count` rows, summed `step` rows at a time in their order."""
    squares = [rows(begin, min(begin + step, count)).square().sum(0) for begin in range(0, count, step)]
    return torch.stack(squares).sum(0).sqrt()


def _rows_of_block(shape: Sequence[int]) -> int:
    return max(1, _BLOCK // max(shape[-1], 1))


def _in_blocks(shape: Sequence[int], block: Callable[[int, int], torch.Tensor]) -> RowBlocks:
    return RowBlocks(TensorInfo(torch.bfloat16, tuple(shape)), _rows_of_block(shape), block)
