"""Chat rows -> packed sequences in which no document sees another.

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
    """Apply the model's chat template. Raises DataError when a row is longer than a pack or its prompt is not a prefix
    of it."""
    examples = []
    for row in rows:
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
    """Shuffle, then first-fit into packs of at most `length` tokens; returns indices into `examples`."""
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)  # noqa: S311 (order, not secrecy)
    packs: list[list[int]] = []
    room: list[int] = []
    for index in order:
        size = len(examples[index].tokens)
        slot = next((i for i, left in enumerate(room) if left >= size), None)
        if slot is None:
            packs.append([])
            room.append(length)
            slot = len(packs) - 1
        packs[slot].append(index)
        room[slot] -= size
    return packs


def collate(packs: Sequence[Sequence[Example]], pad: int) -> Batch:
    """Lay packs side by side; a padding position attends to itself only, so that no row of the mask is empty."""
    width = max(sum(len(e.tokens) for e in p) for p in packs)
    shape = (len(packs), width)
    ids, labels = torch.full(shape, pad), torch.full(shape, IGNORE)
    positions, documents = torch.zeros(shape, dtype=torch.int64), torch.full(shape, -1)
    for row, examples in enumerate(packs):
        at = 0
        for number, example in enumerate(examples):
            n = len(example.tokens)
            tokens = torch.tensor(example.tokens)
            ids[row, at : at + n] = tokens
            positions[row, at : at + n] = torch.arange(n)
            documents[row, at : at + n] = number
            labels[row, at + example.completion - 1 : at + n - 1] = tokens[example.completion :]
            at += n
    same = documents[:, :, None] == documents[:, None, :]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    real = (documents >= 0)[:, None, :]
    mask = (same & causal & real) | torch.eye(width, dtype=torch.bool)
    everyone = [e for p in packs for e in p]
    return Batch(
        ids,
        positions,
        mask[:, None],
        labels,
        sum(len(e.tokens) for e in everyone),
        sum(e.label_tokens for e in everyone),
    )
