"""What an adapter does to one tensor of its base: how the new tensor comes to be, in the terms of `MergeRecipe`.

    Product       W + s * B @ A             and turned, [in, out], where W is stored so
    Stacked       W[e] + s * B[e] @ A[e]    for every expert e of a tensor of three axes
    Replacement   another tensor
    TokenRows     other rows at some tokens
    BiasSum       b + s * bias of lora_B
    Dora          m / |W + s * B @ A| * (W + s * B @ A), norms over the inputs, in fp64 and rounded once

The products of a Product and a Stacked are merged by the convention of `rounded_merge`, whoever reads them.
"""

from __future__ import annotations

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

    def changes(self, tensors: AdapterTensors) -> bool:
        """Whether no factor is zero."""
        return self.scaling != 0 and bool(tensors.read(self.a).any()) and bool(tensors.read(self.b).any())


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
    """A product and the length `magnitude` [O] that every output's weights get (peft/tuners/lora/variants.py)."""

    product: Product
    magnitude: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the adapter's tensors that it is made of."""
        return (*self.product.parts, self.magnitude)

    def recipe(self, below: MergeRecipe, tensors: AdapterTensors) -> MergeRecipe:
        """The scaled weight, computed when it is read: by rows, or at once where an output is a column."""
        update, length = self.product.product(tensors), tensors.read(self.magnitude).double().reshape(-1)
        by_rows = not self.product.turned

        def block(begin: int, end: int) -> torch.Tensor:
            delta = (update.b[begin:end].double() @ update.a.double()) * update.scaling
            moved = merged_rows(below, begin, end).double() + delta
            scale = length[begin:end, None] if by_rows else length[None]
            norms: torch.Tensor = torch.linalg.vector_norm(moved, dim=1 if by_rows else 0, keepdim=True)
            return (scale / norms * moved).to(torch.bfloat16)

        return MergeRecipe(_in_blocks(below.info.shape, block, whole=not by_rows), below.name, ())

    def changes(self, tensors: AdapterTensors) -> bool:  # noqa: ARG002
        """A magnitude counts as a change: it sets lengths."""
        return True


def _in_blocks(shape: Sequence[int], block: Callable[[int, int], torch.Tensor], *, whole: bool = False) -> RowBlocks:
    rows = max(1, _BLOCK // max(shape[-1], 1))
    total = max(1, TensorInfo(torch.bfloat16, tuple(shape)).numel // max(shape[-1], 1))
    return RowBlocks(TensorInfo(torch.bfloat16, tuple(shape)), total if whole else rows, block)
