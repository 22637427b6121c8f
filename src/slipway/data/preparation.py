"""The two halves of preparing data, each from files to a table: raw records -> prepared rows, and rows of splits that
were made before -> splits proved again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slipway.config.data import DataConfig
from slipway.data import clean, split
from slipway.data.earlier_rows import EarlierRows
from slipway.data.funnel import SplitShare, Step
from slipway.data.groups import regroup
from slipway.data.holdout import TEST
from slipway.data.reading import read_table
from slipway.data.row_table import I64, RowTable, TableBuilder
from slipway.data.rows import checked_lines
from slipway.data.split import NAMES, Splits, prove
from slipway.errors import DataError
from slipway.system.progress import Progress

COUNTS = "counts.json"


@dataclass(frozen=True)
class Prepared:
    """The rows of a table that stay, the steps that took the others, and what the file is and how rows are grouped."""

    table: RowTable
    rows: I64
    steps: Sequence[Step]
    about: Mapping[str, str]


def prepare_rows(
    raw: Path, config: DataConfig, work: Path, progress: Progress, earlier: EarlierRows | None = None
) -> Prepared:
    """Read, check, complete and clean the records of a file, and group rows that name no template. Of two that are near
    each other a test row of `earlier` data stays. Raises DataError for what is refused."""
    table, steps, source = read_table(raw, config, work, progress)
    progress.note(source)
    progress.note(f"comparing {len(table):,} rows for duplicates and near duplicates")
    cleaned = clean.clean(table, config, None if earlier is None else earlier.sides(table) == TEST)
    progress.note(f"{len(cleaned.rows):,} of {len(table):,} rows stay after cleaning")
    table, groups = regroup(table, cleaned.rows, config)
    progress.note(groups)
    return Prepared(table, cleaned.rows, [*steps, *cleaned.steps], {"source": source, "groups": groups})


def read_prepared(folder: Path, config: DataConfig, work: Path) -> Prepared:
    """What `write_prepared` wrote."""
    table, _ = _table([folder / "rows.jsonl"], config, work)
    doc = read_counts(folder)
    return Prepared(table, np.arange(len(table)), [Step(**step) for step in doc["steps"]], doc["about"])


def write_prepared(folder: Path, prepared: Prepared) -> None:
    """Write `rows.jsonl` and `counts.json`."""
    prepared.table.write(folder / "rows.jsonl", prepared.rows)
    _write_counts(folder, prepared.steps, [], prepared.about)


def write_splits(folder: Path, splits: Splits, prepared: Prepared) -> None:
    """Write a file for each split, and `counts.json`."""
    for name in NAMES:
        splits.table.write(folder / f"{name}.jsonl", splits[name])
    _write_counts(folder, [*prepared.steps, *splits.steps], splits.shares, prepared.about)


def read_splits(folder: Path, config: DataConfig, work: Path) -> tuple[Splits, Mapping[str, str]]:
    """The splits that `write_splits` wrote, proved again: they may have come from a remote. Raises DataError for rows
    that are not sound, and for leaks."""
    table, ends = _table([folder / f"{name}.jsonl" for name in NAMES], config, work)
    doc = read_counts(folder)
    parts = dict(zip(NAMES, np.split(np.arange(len(table)), ends[:-1]), strict=True))
    steps, shares = [Step(**step) for step in doc["steps"]], [SplitShare(**share) for share in doc["shares"]]
    splits = Splits(table, **parts, steps=steps, shares=shares)
    prove(splits, config)
    return splits, doc["about"]


def read_counts(folder: Path) -> dict[str, Any]:
    """Steps, shares and sentences of a folder. Raises DataError when it holds none of this form."""
    file = folder / COUNTS
    try:
        doc = json.loads(file.read_text(encoding="utf-8"))
        return {key: doc[key] for key in ("steps", "shares", "about")}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise DataError(f"{file}", f"{type(err).__name__}", "the counts of this version", "run `dvc repro`") from err


def flat_counts(splits: Splits) -> dict[str, int]:
    """The steps as flat figures."""
    return clean.count_names(splits.steps) | split.count_names(splits)


def _table(files: Sequence[Path], config: DataConfig, work: Path) -> tuple[RowTable, list[int]]:
    """One table of several files of rows in canonical form, and where each file's rows end."""
    builder, ends = TableBuilder(work, config.seed), []
    for file in files:
        for line in checked_lines(file, config.label_key):
            builder.add(line.number, line.row)
        ends.append(len(builder))
    return builder.finish(), ends


def _write_counts(folder: Path, steps: Sequence[Step], shares: Sequence[SplitShare], about: Mapping[str, str]) -> None:
    doc = {"about": dict(about), "steps": [s.to_json() for s in steps], "shares": [s.to_json() for s in shares]}
    (folder / COUNTS).write_text(json.dumps(doc, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
