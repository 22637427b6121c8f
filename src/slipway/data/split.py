"""Prepared rows -> train, val, test, with whole templates held out, so that the test set measures new wordings.

`holdout` says which templates. Then training rows go that resemble a held-out row: the same wording, or a near
duplicate; with a `label_key` one with the same answer, for free text whatever the answers, because a model that has
seen the question is not asked a new one. `prove` looks for all of this again in what is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipway.config.data import DataConfig
from slipway.data.funnel import EXAMPLES, SplitShare, Step, example
from slipway.data.holdout import TEST, TRAIN, VAL, assign, balance
from slipway.data.near_duplicates import near_pairs
from slipway.data.row_table import I64, U64, RowTable
from slipway.data.rows import prompt
from slipway.data.shingles import shingles
from slipway.errors import DataError

NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Splits:
    """Rows of each split in a shuffled order that depends on the seed only, and what was left out."""

    table: RowTable
    train: I64
    val: I64
    test: I64
    steps: Sequence[Step] = ()
    shares: Sequence[SplitShare] = ()

    def __getitem__(self, name: str) -> I64:
        return {"train": self.train, "val": self.val, "test": self.test}[name]


def split(table: RowTable, rows: I64, config: DataConfig) -> Splits:
    """Hold out templates, balance labels, drop training rows that resemble held-out ones, and prove that nothing
    leaks."""
    place = assign(table, rows, config)[table.template[rows]]
    parts = {side: rows[place == side] for side in (TRAIN, VAL, TEST)}
    alike: list[tuple[int, int]] = []
    test = balance(table, parts[TEST], config.test_per_label)
    clear = _unlike(table, parts[VAL], test, config, alike)
    val = balance(table, clear, config.val_per_label)
    clear = _unlike(table, parts[TRAIN], np.concatenate([test, val]), config, alike)
    train = balance(table, clear, config.per_label)
    left = len(rows) - len(alike)
    taken = len(train) + len(val) + len(test)
    keys = "data.per_label, data.val_per_label, data.test_per_label"
    over = np.setdiff1d(rows, np.concatenate([train, val, test, [row for row, _ in alike]]).astype(np.int64))
    steps = [
        Step("like a held-out row", len(alike), left, "data.near_duplicate", _twins(table, alike[:EXAMPLES])),
        Step("over the cap", left - taken, taken, keys, [_shown(table, row) for row in over[:EXAMPLES].tolist()]),
    ]
    splits = Splits(table, train, val, test, steps, _shares(table, rows, place, (train, val, test), config))
    prove(splits, config)
    return splits


def prove(splits: Splits, config: DataConfig) -> None:
    """Raise DataError when two splits share a template or a wording, or hold near duplicates (see above), or train or
    test is empty."""
    table = splits.table
    for name in ("train", "test"):
        if not len(splits[name]):
            raise DataError(
                f"{name} split",
                "empty",
                "rows of labels with two templates or more",
                "add rows with other wordings, or set `template`",
            )
    for source, held in (("train", "test"), ("train", "val"), ("val", "test")):
        shared = np.intersect1d(table.template[splits[source]], table.template[splits[held]])
        if len(shared):
            names = min(table.templates[i] for i in shared.tolist())
            raise _leak(source, held, f"{len(shared)} shared templates, such as {names!r}")
        if pairs := _alike(table, splits[held], splits[source], config):
            row, twin = (table.row(i) for i in pairs[0])
            raise _leak(source, held, f"{len(pairs)} near duplicates, such as {row['id']} of {twin['id']}")


def _leak(source: str, held: str, what: str) -> DataError:
    return DataError(
        f"leak between {source} and {held}", what, "splits that share nothing", "run prepare again from the raw rows"
    )


def _unlike(table: RowTable, rows: I64, held: I64, config: DataConfig, alike: list[tuple[int, int]]) -> I64:
    """The rows that resemble no held-out row; the others join `alike`, each with its twin."""
    while pairs := _alike(table, rows, held, config):  # MinHash may find more among fewer rows; the exact way does not
        alike += pairs
        rows = rows[~np.isin(rows, [row for row, _ in pairs])]
    return rows


def _alike(table: RowTable, rows: I64, held: I64, config: DataConfig) -> list[tuple[int, int]]:
    """The rows that have the wording of a held-out row or are near one, each with one such row."""
    if not len(rows) or not len(held):
        return []
    both = np.concatenate([held, rows])
    sides = (np.arange(len(both)) >= len(held)).astype(np.int64)
    pairs = near_pairs(shingles(table, both), config.near_duplicate, _classes(table, both, config), sides)
    twin = np.full(len(both), -1)
    twin[pairs.second[::-1]] = pairs.first[::-1]  # held-out rows come first, so each pair's second is the row
    wording, first = np.unique(table.wording[held], return_index=True)
    at = np.minimum(np.searchsorted(wording, table.wording[both]), len(wording) - 1)
    same = (wording[at] == table.wording[both]) & (sides == 1)
    twin[same] = first[at[same]]
    hits = np.flatnonzero((twin >= 0) & (sides == 1))
    return list(zip(both[hits].tolist(), both[twin[hits]].tolist(), strict=True))


def _classes(table: RowTable, rows: I64, config: DataConfig) -> U64:
    """Rows of one class are compared: of the same answer where answers are labelled, else all."""
    return np.zeros(len(rows), np.uint64) if config.label_key is None else table.answer[rows]


def _shown(table: RowTable, row: int) -> str:
    return example(int(table.number[row]), prompt(table.row(row)))


def _twins(table: RowTable, alike: Sequence[tuple[int, int]]) -> list[str]:
    return [
        example(int(table.number[row]), prompt(table.row(row)), (int(table.number[twin]), prompt(table.row(twin))))
        for row, twin in alike
    ]


def _shares(
    table: RowTable, rows: I64, place: NDArray[np.int8], parts: Sequence[I64], config: DataConfig
) -> list[SplitShare]:
    """What was asked for and what came out, with the reasons."""
    total = sum(map(len, parts))
    asked = (1 - config.test_fraction - config.val_fraction, config.val_fraction, config.test_fraction)
    caps = (config.per_label, config.val_per_label, config.test_per_label)
    lone = len(table.labels) - len(np.unique(table.label[parts[2]]))
    sizes = np.bincount(table.template[rows])
    shares = []
    for side, (name, part) in enumerate(zip(NAMES, parts, strict=True)):
        got = len(part) / total if total else 0.0
        before = int((place == side).sum())
        reasons = []
        if caps[side] is not None and len(part) < before:
            key = {"train": "data.per_label", "val": "data.val_per_label", "test": "data.test_per_label"}[name]
            reasons.append(f"{key}={caps[side]} leaves out rows")
        if side == TEST and lone:
            reasons.append(f"{lone} of {len(table.labels)} labels have too few templates to hold one out")
        if abs(got - asked[side]) > 0.02:
            reasons.append(
                f"shares are of templates, the largest of which has {sizes.max() / len(rows):.1%} of the rows"
            )
        shares.append(SplitShare(name, len(part), round(asked[side], 6), round(got, 6), "; ".join(reasons)))
    return shares


def count_names(splits: Splits) -> dict[str, int]:
    """The steps as flat counts."""
    table, gone = splits.table, {step.reason: step.rows for step in splits.steps}
    every = np.concatenate([splits.train, splits.val, splits.test])
    return {
        "resembling_held_out": gone.get("like a held-out row", 0),
        "over_per_label": gone.get("over the cap", 0),
        "templates": len(np.unique(table.template[every])),
        "held_out_templates": len(np.unique(table.template[splits.test])),
        "labels_without_test": len(set(np.unique(table.label[every])) - set(np.unique(table.label[splits.test]))),
    }
