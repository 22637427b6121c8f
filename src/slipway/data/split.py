"""Prepared rows -> train, val, test, with whole templates held out, so that the test set measures new wordings.

`holdout` says which templates. Then training rows go that resemble a held-out row: the same wording, or a near
duplicate; with a `label_key` one with the same answer, for free text whatever the answers, because a model that has
seen the question is not asked a new one. `prove` looks for all of this again in what is written. Among millions of rows
near duplicates are looked for by MinHash (`near_duplicates`), which may miss some, here and in the proof: the step then
says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slipway.config.data import DataConfig
from slipway.data.funnel import EXAMPLES, SplitShare, Step, example
from slipway.data.holdout import TEST, TRAIN, VAL, Sides, assign, balance
from slipway.data.near_duplicates import near_pairs
from slipway.data.row_table import I64, U64, RowTable
from slipway.data.rows import prompt
from slipway.data.shingles import shingles
from slipway.errors import DataError

NAMES = ("train", "val", "test")
ALIKE = "like a held-out row"
LEARNT = "of a test template, but learnt before"


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


def split(table: RowTable, rows: I64, config: DataConfig, earlier: Sides | None = None) -> Splits:
    """Hold out templates, balance labels, and drop training rows that resemble held-out ones until none is left.

    `earlier`: the side that each row of the table had in an earlier version of the data, or NEW: its test rows stay
    test rows, whatever the caps, and what it trained or validated on is tested in no case."""
    place = assign(table, rows, config, earlier)[table.template[rows]]
    train, val, test = (rows[place == side] for side in (TRAIN, VAL, TEST))
    learnt = test[np.isin(earlier[test], (TRAIN, VAL))] if earlier is not None else test[:0]
    stay = None if earlier is None else earlier == TEST
    test = balance(table, test[~np.isin(test, learnt)], config.test_per_label, stay)
    near, exact = _alike(table, (train, val, test), config)
    twins = {row: twin for row, twin in near if place[np.searchsorted(rows, row)] == VAL}
    val = balance(table, _without(val, twins), config.val_per_label)
    held = {*val.tolist(), *test.tolist()}
    twins |= {row: twin for row, twin in near if row not in held and twin in held}
    train = balance(table, _without(train, twins), config.per_label)
    # What many rows share, and so what is near, is counted among the rows at hand, and these have become fewer.
    while more := dict(_alike(table, (train, val, test), config)[0]):
        twins |= more
        train, val = _without(train, more), _without(val, more)
    reason = ALIKE if exact else f"{ALIKE} (by MinHash)"
    steps = _steps(table, _without(rows, learnt.tolist()), (train, val, test), twins, reason)
    if earlier is not None:
        shown = [_shown(table, row) for row in learnt[:EXAMPLES].tolist()]
        steps = [Step(LEARNT, len(learnt), len(rows) - len(learnt), "", shown), *steps]
    splits = Splits(table, train, val, test, steps, _shares(table, rows, place, (train, val, test), config))
    _refuse_shared(splits)
    return splits


def prove(splits: Splits, config: DataConfig) -> None:
    """Raise DataError when two splits share a template or a wording, or hold near duplicates (see above), or train or
    test is empty."""
    _refuse_shared(splits)
    sides = {row: name for name in NAMES for row in splits[name].tolist()}
    if pairs := _alike(splits.table, (splits.train, splits.val, splits.test), config)[0]:
        row, twin = pairs[0]
        ids = [splits.table.row(i)["id"] for i in (row, twin)]
        raise _leak(sides[row], sides[twin], f"{len(pairs)} near duplicates, such as {ids[1]} of {ids[0]}")


def _refuse_shared(splits: Splits) -> None:
    """Raise DataError when train or test is empty, or two splits share a template."""
    table = splits.table
    for name in ("train", "test"):
        if not len(splits[name]):
            raise DataError(
                f"{name} split",
                f"empty: {_largest_group(table)}",
                "rows of labels with two templates or more",
                "add rows with other wordings, set `template`, or raise data.near_duplicate where rows were grouped by "
                "how alike they are",
            )
    for source, held in (("train", "test"), ("train", "val"), ("val", "test")):
        shared = np.intersect1d(table.template[splits[source]], table.template[splits[held]])
        if len(shared):
            names = min(table.templates[i] for i in shared.tolist())
            raise _leak(source, held, f"{len(shared)} shared templates, such as {names!r}")


def _largest_group(table: RowTable) -> str:
    """How much of the table the largest template holds: a template is never cut in two."""
    sizes = np.bincount(table.template) if len(table.template) else np.zeros(1, np.int64)
    rows, share = int(sizes.max()), sizes.max() / max(1, sizes.sum())
    if rows == 1:
        return f"{len(table.template)} rows are too few for it"
    return f"{rows:,} of {int(sizes.sum()):,} rows ({share:.0%}) are of one template or group, which is held out whole"


def _leak(source: str, held: str, what: str) -> DataError:
    return DataError(
        f"leak between {source} and {held}", what, "splits that share nothing", "run prepare again from the raw rows"
    )


def _without(rows: I64, gone: Iterable[int]) -> I64:
    return rows[~np.isin(rows, list(gone))]


def _alike(table: RowTable, parts: Sequence[I64], config: DataConfig) -> tuple[list[tuple[int, int]], bool]:
    """The rows that have the wording of a row of a later part or are near one, each with every such row; and whether
    every near one was found."""
    rows = np.concatenate(parts)
    sides = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    pairs = near_pairs(shingles(table, rows), config.near_duplicate, _classes(table, rows, config), sides)
    first, second = _same_wording(table.wording[rows], sides)
    first, second = np.concatenate([pairs.first, first]), np.concatenate([pairs.second, second])
    return list(zip(rows[first].tolist(), rows[second].tolist(), strict=True)), pairs.exact


def _same_wording(wording: U64, sides: I64) -> tuple[I64, I64]:
    """Rows of an earlier side with a row of the last side that has their wording, as two arrays of places."""
    order = np.lexsort((-sides, wording))  # of one wording, a row of its last side first
    _, which = np.unique(wording[order], return_inverse=True)
    leader = order[np.flatnonzero(np.concatenate([[True], np.diff(which) != 0]))[which]] if len(order) else order
    earlier = sides[order] < sides[leader]
    return order[earlier], leader[earlier]


def _classes(table: RowTable, rows: I64, config: DataConfig) -> U64:
    """Rows of one class are compared: of the same answer where answers are labelled, else all."""
    return np.zeros(len(rows), np.uint64) if config.label_key is None else table.answer[rows]


def _shown(table: RowTable, row: int) -> str:
    return example(int(table.number[row]), prompt(table.row(row)))


def _steps(table: RowTable, rows: I64, parts: Sequence[I64], twins: Mapping[int, int], reason: str) -> list[Step]:
    """What went for resembling a held-out row, named `reason`, and what over the caps."""
    taken = sum(map(len, parts))
    over = _without(rows, [*np.concatenate(parts).tolist(), *twins])
    alike = [
        example(int(table.number[row]), prompt(table.row(row)), (int(table.number[twin]), prompt(table.row(twin))))
        for row, twin in list(twins.items())[:EXAMPLES]
    ]
    keys = "data.per_label, data.val_per_label, data.test_per_label"
    return [
        Step(reason, len(twins), len(rows) - len(twins), "data.near_duplicate", alike),
        Step("over the cap", len(over), taken, keys, [_shown(table, row) for row in over[:EXAMPLES].tolist()]),
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
        "resembling_held_out": sum(rows for reason, rows in gone.items() if reason.startswith(ALIKE)),
        "over_per_label": gone.get("over the cap", 0),
        "templates": len(np.unique(table.template[every])),
        "held_out_templates": len(np.unique(table.template[splits.test])),
        "labels_without_test": len(set(np.unique(table.label[every])) - set(np.unique(table.label[splits.test]))),
    }
