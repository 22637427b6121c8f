"""Chat rows to packed sequences in which no document attends to another.

A pack is several documents end to end. Positions restart at 0 with each document and the attention mask is
block-diagonal and causal, so a packed document computes exactly what it would compute alone. Labels are the next token
where that token belongs to the document's completion (the last assistant message and its end-of-turn), else IGNORE.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from slipway.errors import DataError

IGNORE = -100


@dataclass(frozen=True)
class Example:
    """One row as tokens; `tokens[completion:]` is what the model learns to write."""

    tokens: list[int]
    completion: int

    @property
    def label_tokens(self) -> int:
        """Tokens of the completion, end of turn included."""
        return len(self.tokens) - self.completion


@dataclass(frozen=True)
class Batch:
    """B packs padded to the longest, T tokens. `mask` is True where a query (row) may attend to a key (column)."""

    input_ids: torch.Tensor  # int64 [B, T]
    positions: torch.Tensor  # int64 [B, T]
    mask: torch.Tensor  # bool  [B, 1, T, T]
    labels: torch.Tensor  # int64 [B, T]
    tokens: int  # padding excluded
    label_tokens: int


def tokenize(rows: Sequence[dict[str, Any]], tokenizer: Any, longest: int) -> list[Example]:
    """Chat rows as token ids by the model's chat template; `longest` is the tokens of a pack.

    The completion is what follows the prompt with its generation header. Raises DataError for a row longer than a pack,
    and for one whose prompt is not a prefix of it.
    """
    examples = []
    for row in rows:
        # Tokenized twice, not cut by text: only so is it known that the template appends, and that no token spans the
        # cut
        prompt = _ids(tokenizer, row["messages"][:-1], add_generation_prompt=True)
        whole = _ids(tokenizer, row["messages"], add_generation_prompt=False)
        if whole[: len(prompt)] != prompt or len(whole) == len(prompt):
            raise DataError(
                f"row {row.get('id')}",
                "its prompt's tokens are not a prefix of the whole row's",
                "a chat template that appends",
                "use another template",
            )
        if len(whole) > longest:
            raise DataError(
                f"row {row.get('id')}",
                f"{len(whole)} tokens",
                f"at most train.pack_length={longest}",
                "raise train.pack_length or shorten the row",
            )
        examples.append(Example(whole, len(prompt)))
    return examples


def _ids(tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def pack(examples: Sequence[Example], length: int, seed: int) -> list[list[int]]:
    """Shuffle by `seed`, then put each example into the first pack of at most `length` tokens that has room for it.

    Returns packs of indices into `examples`, each example once, packs in the order in which they were opened.
    """
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)  # noqa: S311 (order, not secrecy)
    packs: list[list[int]] = []
    room: list[int] = []  # tokens free in each pack
    for index in order:
        size = len(examples[index].tokens)
        slot = next((i for i, free in enumerate(room) if free >= size), None)
        if slot is None:
            packs.append([])
            room.append(length)
            slot = len(packs) - 1
        packs[slot].append(index)
        room[slot] -= size
    return packs


def collate(packs: Sequence[Sequence[Example]], pad: int) -> Batch:
    """Lay B packs side by side, padded with `pad` to the longest, and build their attention mask, positions and
    labels."""
    width = max(sum(len(e.tokens) for e in p) for p in packs)
    shape = (len(packs), width)
    ids, labels = torch.full(shape, pad), torch.full(shape, IGNORE)
    positions = torch.zeros(shape, dtype=torch.int64)
    documents = torch.full(shape, -1)  # number of the document that a position belongs to; -1: padding
    for row, examples in enumerate(packs):
        at = 0
        for number, example in enumerate(examples):
            n = len(example.tokens)
            tokens = torch.tensor(example.tokens)
            ids[row, at : at + n] = tokens
            positions[row, at : at + n] = torch.arange(n)
            documents[row, at : at + n] = number
            # A label is the next token: the prompt's last position learns the completion's first token, and the last
            # token of a document predicts nothing, above all not the first one of the next document
            labels[row, at + example.completion - 1 : at + n - 1] = tokens[example.completion :]
            at += n
    # Query i attends to key j when both stand in the same document, j is not later, and j is no padding. Padding would
    # have rows without any True, whose softmax is 0/0 and whose NaN reaches the gradients of every weight; so each
    # position attends to itself, which changes nothing for the others.
    same = documents[:, :, None] == documents[:, None, :]  # [B, T, T]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    real = (documents >= 0)[:, None, :]
    mask = (same & causal & real) | torch.eye(width, dtype=torch.bool)
    members = [e for p in packs for e in p]
    return Batch(
        ids,
        positions,
        mask[:, None],
        labels,
        sum(len(e.tokens) for e in members),
        sum(e.label_tokens for e in members),
    )
