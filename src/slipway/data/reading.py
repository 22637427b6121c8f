"""A file of records -> a table of sound rows, in one pass, with what was rejected and what was not used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from slipway.config.data import DataConfig
from slipway.data.clean import complete
from slipway.data.formats import detect, renamed, to_row, unused
from slipway.data.funnel import EXAMPLES, Step
from slipway.data.row_table import RowTable, TableBuilder, digest64
from slipway.data.rows import SHOWN, NumberedRow, Rejected, Row, problem, refusal
from slipway.data.sources import Record, open_source
from slipway.data.strict_json import shown
from slipway.errors import DataError
from slipway.system.progress import Progress

EVERY = 2000  # rows between two progress events


@dataclass
class Tally:
    """What a pass over a file counts: rows of each format, columns that nothing reads, and the first bad lines."""

    formats: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    bad: int = 0
    first_bad: list[Rejected] = field(default_factory=list)


def read_table(path: Path, config: DataConfig, work: Path, progress: Progress) -> tuple[RowTable, list[Step], str]:
    """Read, convert and check every record. Returns the sound rows, the funnel's first steps, and a sentence that says
    what the file is.

    Rejected lines are listed in `rejected.jsonl` of `work`; unless `data.invalid` is `drop` they raise DataError, as
    does a file without a row.
    """
    source, tally = open_source(path), Tally()
    builder = TableBuilder(work, config.seed)
    listed = work / "rejected.jsonl"
    with listed.open("w", encoding="utf-8") as rejected:
        for line in _sound(path.name, source.records, config, tally, builder):
            if isinstance(line, Rejected):
                tally.bad += 1
                tally.first_bad += [line] if tally.bad <= SHOWN else []
                rejected.write(json.dumps(vars(line)) + "\n")
            if not (len(builder) + tally.bad) % EVERY:
                progress.update("read", len(builder) + tally.bad, None, "rows")
    if not tally.bad:
        listed.unlink()
    elif config.invalid == "refuse" or not len(builder):
        raise refusal(tally.first_bad, tally.bad, len(builder), listed)
    if not len(builder):
        raise DataError(f"data file {path}", "empty", "rows", "write rows into it, or point data.raw elsewhere")
    return builder.finish(), _steps(tally, len(builder)), _sentence(path, source.kind, tally)


def _sound(
    file: str, records: Iterator[Record], config: DataConfig, tally: Tally, builder: TableBuilder
) -> Iterator[Rejected | None]:
    """Adds sound rows to the builder; yields one item a record, the rejected ones with their reason."""
    first_with: dict[int, int] = {}
    for record in records:
        try:
            if record.reason:
                raise ValueError(record.reason)
            row = _row(record.value, config, tally)
            if "id" in row and (before := first_with.setdefault(digest64(row["id"]), record.line)) != record.line:
                raise ValueError(
                    f"id {shown(row['id'])} is also on line {before} (number rows anew, or rename the column)"
                )
            builder.add(record.line, complete(NumberedRow(record.line, row), config), named="template" in row)
        except ValueError as err:
            yield Rejected(file, record.line, str(err))
        else:
            yield None


def _row(value: object, config: DataConfig, tally: Tally) -> Row:
    """Raises ValueError with the reason when the record makes no sound row."""
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {'null' if value is None else type(value).__name__}, expected an object")
    record = renamed(value, config.columns)
    name = detect(record) if config.format == "auto" else config.format
    row = to_row(record, name)
    if reason := problem(row, config.label_key):
        raise ValueError(reason)
    tally.formats[name] += 1
    tally.unused.update(unused(record, name))
    return row


def _steps(tally: Tally, rows: int) -> list[Step]:
    columns = [f"column {shown(name, 40)} is not used ({count:,} rows)" for name, count in tally.unused.most_common(5)]
    more = [f"and {len(tally.unused) - 5} more columns"] if len(tally.unused) > 5 else []
    return [
        Step("read", rows + tally.bad, rows + tally.bad, "data.raw", columns + more),
        Step("invalid", tally.bad, rows, "data.invalid", [str(line) for line in tally.first_bad[:EXAMPLES]]),
    ]


def _sentence(path: Path, kind: str, tally: Tally) -> str:
    formats = ", ".join(f"{name} ({count:,} rows)" for name, count in tally.formats.most_common())
    return f"{path.name} is {kind}; format {formats} (data.format)"
