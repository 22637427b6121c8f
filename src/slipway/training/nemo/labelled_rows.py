"""Rows as tokens with their labels, on disk, and the dataset that NeMo AutoModel reads them by.

NeMo's `ChatDataset` finds labels by rules of its own: it leaves role headers in the loss where a template repeats its
generation prompt only in part, cuts a row at any Unicode line separator, and refuses templates that rewrite history.
So the job gets what `data.labels` decided, the embedded trainer's labels, and decides nothing:

    tokens.npy   int32 [T]      all rows end to end
    labels.npy   int32 [T]      the token where it is learnt, -100 elsewhere
    offsets.npy  int64 [R + 1]  row r is [offsets[r], offsets[r + 1])

A sample is shifted by one as NeMo's own datasets do: `input_ids` without the last token, `labels` without the first.
This file is copied into the job's folder and loaded there by path (`_target_: FILE:LabelledRows`), so it imports
nothing of Slipway.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

IGNORED = -100
TOKENS, LABELS, OFFSETS = "tokens.npy", "labels.npy", "offsets.npy"


class LabelledRows:
    """The rows of a folder that `write_labelled` wrote. NeMo hands its `tokenizer` over; only its padding is used."""

    def __init__(self, folder: str, tokenizer: Any = None) -> None:
        self._tokens, self._labels, self._offsets = (
            np.load(Path(folder) / name, mmap_mode="r") for name in (TOKENS, LABELS, OFFSETS)
        )
        # NeMo asks the tokenizer for the padding of its packs, and its own datasets see to it that there is one
        if tokenizer is not None and tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._pad = getattr(tokenizer, "pad_token_id", None) or 0

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start, end = (int(self._offsets[index % len(self) + side]) for side in (0, 1))
        inputs = self._tokens[start : end - 1].tolist()
        return {
            "input_ids": inputs,
            "labels": self._labels[start + 1 : end].tolist(),
            "attention_mask": [1] * len(inputs),
            "___PAD_TOKEN_IDS___": {"input_ids": self._pad, "labels": IGNORED, "attention_mask": 0},
        }


def write_labelled(folder: Path, rows: Iterable[tuple[list[int], list[int]]]) -> None:
    """Write rows of (tokens, labels), each file whole or not at all: a job that runs may have the old ones mapped."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens, labels, offsets = list[int](), list[int](), [0]
    for row, learnt in rows:
        tokens += row
        labels += learnt
        offsets.append(len(tokens))
    for name, values, dtype in ((TOKENS, tokens, np.int32), (LABELS, labels, np.int32), (OFFSETS, offsets, np.int64)):
        temporary = folder / f".{name}"
        with temporary.open("wb") as f:
            np.save(f, np.array(values, dtype=dtype))
        os.replace(temporary, folder / name)  # noqa: PTH105 (the same on both sides of a job)
