"""Rows known again from an earlier version of the data, so that what was tested then is tested now.

A model is compared with the one before it on the same test rows, and only on rows that neither learnt. A new draw over
more rows would move some of the old test rows into training, and rows that the older model learnt into the test set.
So rows that both versions have keep their side (`holdout.assign`); only rows that are new since may add to it.

A row is known by what is asked: its turns before the answer, its tools and its system prompt, whatever its id, which is
a line number where a file has none, and whatever its answer, which may have been corrected. A system prompt that
`data.system` put before the rows counts as today's: the rows are the same without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slipway.config.data import EarlierData
from slipway.data.holdout import NEW, TEST, TRAIN, VAL
from slipway.data.row_table import U64, RowTable, asked
from slipway.data.rows import Row, checked_lines, read_rows
from slipway.data.split import Splits
from slipway.errors import StateError
from slipway.store.artifacts import Dataset
from slipway.store.store import load

TEST_ROWS = "test_rows.json"
Since = Literal["fixed", "learnt", "new"]
FILES = {TRAIN: "train.jsonl", VAL: "val.jsonl", TEST: "test.jsonl"}


@dataclass(frozen=True)
class EarlierRows:
    """What the rows of an earlier dataset ask, by side: digests as in `RowTable.text`, each once. `digest`: of that
    dataset."""

    asked: dict[int, U64]
    digest: str = ""

    def sides(self, table: RowTable) -> NDArray[np.int8]:
        """For each row of a table its side then: TEST, VAL or TRAIN, NEW where the earlier data did not have it. Of
        several (there is none in what `split` makes) the one that is farther from training."""
        return self.sides_of(table.text)

    def sides_of(self, asked: U64) -> NDArray[np.int8]:
        """The same of rows by what they ask (`row_table.asked`)."""
        sides = np.full(len(asked), NEW, np.int8)
        for side in (TRAIN, VAL, TEST):
            sides[np.isin(asked, self.asked[side])] = side
        return sides

    def gone(self, table: RowTable) -> int:
        """How many test rows of then the table does not have."""
        return int((~np.isin(self.asked[TEST], table.text)).sum())


def read_earlier(data: EarlierData, system: str | None) -> EarlierRows:
    """The rows of a dataset, as they would stand under today's `data.system`. Raises StateError where the dataset is
    gone or another than planned, DataError for rows that are not sound."""
    made = load(Dataset, Path(data.path))
    if made.digest != data.digest:
        raise StateError(f"data {data.path}", made.digest[:12], f"{data.digest[:12]} as planned", "run again")
    then = system_of(made)
    sides = {side: (asked(row) for row in _under(made.path / name, then, system)) for side, name in FILES.items()}
    return EarlierRows({side: np.unique(np.fromiter(each, np.uint64)) for side, each in sides.items()}, data.digest)


def since(data: Dataset, before: Dataset) -> dict[str, Since]:
    """What each test row of `data`, by its id, was in the data `before`: `fixed` (tested there too), `learnt` (trained
    or validated on), or `new`."""
    earlier = read_earlier(EarlierData(path=str(before.path), digest=before.digest), system_of(data))
    rows = read_rows(data.path / "test.jsonl")
    sides = earlier.sides_of(np.fromiter((asked(row) for row in rows), np.uint64))
    names: dict[int, Since] = {TEST: "fixed", VAL: "learnt", TRAIN: "learnt", NEW: "new"}
    return {str(row["id"]): names[side] for row, side in zip(rows, sides.tolist(), strict=True)}


def system_of(data: Dataset) -> str | None:
    """The `data.system` under which a dataset was made; None where it had none, or where nothing says."""
    config = data.manifest["provenance"].get("params", {}).get("config")
    return config.get("system") if isinstance(config, dict) else None


def mark_tests(splits: Splits, earlier: EarlierRows, out: Path) -> dict[str, int]:
    """Write `test_rows.json` into `out`: the ids of the test rows that are new. How many are fixed, how many new, and
    how many of then are no longer there."""
    table = splits.table
    new = [table.row(i)["id"] for i in splits.test[earlier.sides(table)[splits.test] != TEST].tolist()]
    counts = {
        "test_rows_fixed": len(splits.test) - len(new),
        "test_rows_new": len(new),
        "test_rows_gone": earlier.gone(table),
    }
    document = {"since": earlier.digest, **counts, "new": new}
    (out / TEST_ROWS).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return counts


def sentence(counts: Mapping[str, int]) -> str:
    """The counts of `mark_tests` for people."""
    return (
        f"test rows: {counts['test_rows_fixed']:,} of the champion's stay, {counts['test_rows_new']:,} are new, "
        f"{counts['test_rows_gone']:,} of the champion's are no longer in the data"
    )


def _under(file: Path, then: str | None, now: str | None) -> Iterator[Row]:
    """The rows of a file; a system prompt of `then` is replaced by that of `now`."""
    if not file.is_file() or not file.stat().st_size:  # a dataset without validation rows
        return
    for line in checked_lines(file, None):
        first, *turns = line.row["messages"]
        if then is not None and first == {"role": "system", "content": then}:
            prompt = [{"role": "system", "content": now}] if now is not None else []
            yield {**line.row, "messages": [*prompt, *turns]}
        elif now is not None and first["role"] != "system":
            yield {**line.row, "messages": [{"role": "system", "content": now}, first, *turns]}
        else:
            yield line.row
