"""What is held out together: rows of one template; where no row names its template, rows made alike.

With a `label_key` a row without a template belongs to the text of its prompt with numbers and answered values masked
(`clean.masked`). That groups data written from templates. In other data each row is a group of its own, and two
prompts that differ by a word would be on both sides of the split. So where no row names a template, and answers are
free text or no two rows share a masked text, rows that a chain of near duplicate prompts joins, whatever their
answers, are one group.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slipway.config.data import DataConfig
from slipway.data.holdout import GROUP
from slipway.data.near_duplicates import Pairs, components, near_pairs
from slipway.data.row_table import I64, RowTable
from slipway.data.shingles import shingles


def regroup(table: RowTable, rows: I64, config: DataConfig) -> tuple[RowTable, str]:
    """The table with the templates by which its rows are split, and a sentence that says where they come from."""
    named = int(np.count_nonzero(table.named[rows]))
    of_rows = table.template[rows]
    count = len(np.unique(of_rows))
    if named:
        return table, f"{count:,} templates, named by {named:,} of {len(rows):,} rows"
    if config.label_key is not None and count < len(rows):
        return table, f"{count:,} templates: rows that differ only in numbers and answered values"
    pairs = near_pairs(shingles(table, rows), config.near_duplicate, np.zeros(len(rows), np.uint64))
    groups = components(_with_templates(pairs, of_rows), len(rows))
    names = [table.templates[i] for i in of_rows.tolist()]
    order = np.argsort(np.array(names), kind="stable")
    first = np.full(int(groups.max()) + 1, -1)
    first[groups[order[::-1]]] = order[::-1]  # the last one written stays: the first in the order of names
    group_names = [f"{GROUP}{names[i].removeprefix('text-')}" for i in first.tolist()]
    template = np.zeros(len(table), np.int32)
    template[rows] = groups
    how = "" if pairs.exact else ", found by MinHash"
    say = f"no row names a template: {len(first):,} groups made by similarity (data.near_duplicate){how}"
    return replace(table, template=template, templates=group_names, regrouped=True), say


def _with_templates(pairs: Pairs, template: np.ndarray[tuple[int], np.dtype[np.int32]]) -> Pairs:
    """The pairs, and each row with the next one of its template."""
    order = np.argsort(template, kind="stable")
    same = template[order[1:]] == template[order[:-1]]
    first, second = order[:-1][same], order[1:][same]
    return Pairs(np.concatenate([pairs.first, first]), np.concatenate([pairs.second, second]), pairs.exact)
