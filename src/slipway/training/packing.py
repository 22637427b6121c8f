"""Chat rows to packed sequences in which no document attends to another.

A pack is several documents. Tokens with which all of them begin, a system prompt above all, stand in it once; then come
the documents without those tokens, end to end. Positions of each document go on where the shared beginning ends, and
the attention mask is causal, block-diagonal, and open to the shared beginning, so a packed document computes exactly
what it would compute alone: causal attention makes a token's hidden state a function of the tokens before it, which are
the same for all. Gradients through the shared tokens add up. A document's last token is left out, as nothing is
predicted from it. Labels are the next token where the row's labels (`data.labels`) have it learnt, else IGNORE.
Shared-prefix packing: Hydragen (arXiv:2402.05099) for decoding; here for training.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from slipway.data.labels import LabelledRow

IGNORE = -100
_PADDING, _SHARED = -1, -2  # in place of a document's number


@dataclass(frozen=True)
class Batch:
    """B packs padded to the longest, T tokens. `mask` is True where a query (row) may attend to a key (column)."""

    input_ids: torch.Tensor  # int64 [B, T]
    positions: torch.Tensor  # int64 [B, T]
    mask: torch.Tensor  # bool  [B, 1, T, T]
    labels: torch.Tensor  # int64 [B, T]
    tokens: int  # of the rows, each counted whole: what a shared beginning saves shows in T only
    label_tokens: int


@dataclass
class _Pack:
    """A pack while it is filled: its documents, how many first tokens they share, the inputs of all counted whole."""

    members: list[int]
    first: LabelledRow
    shared: int
    inputs: int

    def width(self, example: LabelledRow, shared: int) -> int:
        """Tokens the pack has with `example` in it, when all share the first `shared` tokens."""
        return self.inputs + len(example.inputs) - len(self.members) * shared

    def takes(self, index: int, example: LabelledRow, length: int) -> bool:
        """Put the example in if the pack then has at most `length` tokens."""
        most = min(self.shared, example.shareable)
        if self.width(example, most) > length:
            return False  # most packs end here, before tokens are compared
        shared = _common(self.first.tokens, example.tokens, most)
        if self.width(example, shared) > length:
            return False
        self.members.append(index)
        self.shared, self.inputs = shared, self.inputs + len(example.inputs)
        return True


def pack(examples: Sequence[LabelledRow], length: int, seed: int) -> list[list[int]]:
    """Shuffle by `seed`, then put each example into the first pack that has room for it: at most `length` tokens, what
    its documents share counted once.

    Returns packs of indices into `examples`, each example once, packs in the order in which they were opened.
    """
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)  # noqa: S311 (order, not secrecy)
    packs: list[_Pack] = []
    for index in order:
        example = examples[index]
        if not any(opened.takes(index, example, length) for opened in packs):
            packs.append(_Pack([index], example, example.shareable, len(example.inputs)))
    return [opened.members for opened in packs]


def split_pack(rows: Sequence[LabelledRow], pack: Sequence[int], parts: int) -> list[list[int]]:
    """The rows of a pack in at most `parts` packs that take about as long each: the longest row first, each to the
    part with the fewest tokens so far (Graham 1969). Parts without a row are left out; rows keep their order."""
    filled: list[list[int]] = [[] for _ in range(parts)]
    tokens = [0] * parts
    for index in sorted(pack, key=lambda i: -len(rows[i].inputs)):
        fewest = tokens.index(min(tokens))
        filled[fewest].append(index)
        tokens[fewest] += len(rows[index].inputs)
    return [sorted(part, key=pack.index) for part in filled if part]


def shared_beginning(documents: Sequence[LabelledRow]) -> int:
    """How many first tokens the documents of a pack have in common and predict no label from; 0 for one document."""
    if len(documents) == 1:
        return 0
    most = min(document.shareable for document in documents)
    # What the first and the last in dictionary order begin with, all between them begin with
    return _common(min(d.tokens for d in documents), max(d.tokens for d in documents), most)


def _common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    return next((i for i in range(most) if one[i] != other[i]), most)


def packed_tokens(documents: Sequence[LabelledRow]) -> int:
    """Tokens that one pack of these documents has."""
    shared = shared_beginning(documents)
    return shared + sum(len(d.inputs) - shared for d in documents)


def collate(packs: Sequence[Sequence[LabelledRow]], pad: int) -> Batch:
    """Lay B packs side by side, padded with `pad` to the longest, and build their attention mask, positions and
    labels."""
    width = max(packed_tokens(p) for p in packs)
    shape = (len(packs), width)
    ids, labels = torch.full(shape, pad), torch.full(shape, IGNORE)
    positions = torch.zeros(shape, dtype=torch.int64)
    documents = torch.full(shape, _PADDING)  # number of the document that a position belongs to
    for row, examples in enumerate(packs):
        at = shared = shared_beginning(examples)
        ids[row, :shared] = torch.tensor(examples[0].tokens[:shared])
        positions[row, :shared] = torch.arange(shared)
        documents[row, :shared] = _SHARED
        for number, example in enumerate(examples):
            n = len(example.inputs) - shared
            ids[row, at : at + n] = torch.tensor(example.inputs[shared:])
            positions[row, at : at + n] = torch.arange(shared, shared + n)
            documents[row, at : at + n] = number
            # A label is the next token: the prompt's last position learns the answer's first token
            labels[row, at : at + n] = torch.tensor(example.labels(IGNORE)[shared + 1 :])
            at += n
    members = [e for p in packs for e in p]
    return Batch(
        ids,
        positions,
        _mask(documents),
        labels,
        sum(len(e.tokens) for e in members),
        sum(e.label_tokens for e in members),
    )


def _mask(documents: torch.Tensor) -> torch.Tensor:
    """Attention mask [B, 1, T, T] from the document numbers [B, T] of positions.

    Query i attends to key j when j is not later and either both stand in the same document or j in what all share.
    Padding would have rows without any True, whose softmax is 0/0 and whose NaN reaches the gradients of every weight;
    so each position attends to itself, which changes nothing for the others.
    """
    query, key = documents[:, :, None], documents[:, None, :]
    width = documents.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    open_to = ((query == key) & (key != _PADDING)) | ((key == _SHARED) & (query != _PADDING))
    return ((open_to & causal) | torch.eye(width, dtype=torch.bool))[:, None]
