"""Files of records: JSON lines, a JSON array, CSV (`,`, `;` or tab) and Parquet; the text ones plain, gzip or zstd.

What a file is, is read from its first bytes (CSV: from its name or its header). Records come one at a time, each with
its place: the line it begins on, counted from 1, or for Parquet the row. A record that cannot be read comes with the
reason instead of a value; a file that cannot be read at all raises DataError.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from slipway.data.formats import COLUMNS
from slipway.data.strict_json import parse, parse_from, shown
from slipway.errors import DataError

CHUNK = 1 << 20
_QUOTED = re.compile(r'"[^"]*"')
_EXCEL_MARK = re.compile(r"\s*sep=(.)\s*")
FOREIGN = {
    b"BZh": ("bzip2", "unpack it, or pack it with gzip or zstd"),
    b"\xfd7zXZ": ("xz", "unpack it, or pack it with gzip or zstd"),
    b"PK\x03\x04": ("a zip archive", "unpack it"),
    b"\xff\xfe": ("UTF-16 text", "save it as UTF-8"),
    b"\xfe\xff": ("UTF-16 text", "save it as UTF-8"),
    b"ARROW1": ("an Arrow file", "save it as Parquet"),
}


@dataclass(frozen=True)
class Record:
    """One record at `line`: its value, or the `reason` why it cannot be read."""

    line: int
    value: Any = None
    reason: str = ""


@dataclass(frozen=True)
class Source:
    """A file of records: what it is, in words, and the records."""

    kind: str
    records: Iterator[Record]


def open_source(path: Path) -> Source:
    """Find out what a file is. Raises DataError for what is none of these, at once or while its records are read."""
    with _named(path):
        if path.exists() and not path.is_file() and not path.is_dir():  # opening a pipe waits for who writes it
            raise DataError(
                f"data file {path}",
                "a pipe or a device, which can be read once",
                "a file",
                "write it into a file first",
            )
        head = _head(path, 4)
        if head == b"PAR1":
            return Source("Parquet", _parquet(path))
        packed = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
        packing = next((name for magic, name in packed.items() if head.startswith(magic)), "")
        with _unpacked(path, packing) as stream:
            start = stream.read(CHUNK)
        for magic, (what, way_out) in FOREIGN.items():
            if start.startswith(magic):
                raise DataError(f"data file {path}", what, "JSON lines, a JSON array, CSV or Parquet", way_out)
        kind = _text_kind(path, start)
        readers = {"JSON array": _array, "JSON lines": _lines, "CSV": _csv}
        return Source(f"{kind}, {packing}" if packing else kind, _read(path, packing, readers[kind]))


def _text_kind(path: Path, start: bytes) -> str:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    suffixes = {suffix.lower() for suffix in path.suffixes}
    if {".csv", ".tsv"} & suffixes and not text.startswith((b'{"', b"[{")):
        return "CSV"
    if text.startswith((b"[", b"{")):
        return "JSON array" if text.startswith(b"[") else "JSON lines"
    first = text.partition(b"\n")[0].decode("utf-8", "replace")
    names = {name.strip(' "') for name in first.strip().split(_delimiter(first))}
    return "CSV" if len(names) > 1 and COLUMNS & names else "JSON lines"


def _read(path: Path, packing: str, reader: Any) -> Iterator[Record]:
    with _named(path), _unpacked(path, packing) as stream:
        yield from reader(path, stream)


def _head(path: Path, count: int) -> bytes:
    with path.open("rb") as f:
        return f.read(count)


@contextmanager
def _unpacked(path: Path, packing: str) -> Iterator[IO[bytes]]:
    if packing == "zstd":
        import pyarrow

        with pyarrow.OSFile(str(path)) as raw, pyarrow.CompressedInputStream(raw, "zstd") as stream:
            yield io.BufferedReader(_Readable(stream), CHUNK)
    elif packing == "gzip":
        with gzip.open(path, "rb") as unpacked:
            yield cast(IO[bytes], unpacked)
    else:
        with path.open("rb") as plain:
            yield plain


class _Readable(io.RawIOBase):
    """An Arrow stream as one that Python's readers take."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the system and of the libraries that unpack, as one that names the file."""
    try:
        yield
    except FileNotFoundError as err:
        raise DataError(
            "data file", path, "an existing file of rows", "run `dvc repro`, or point data.raw at your file"
        ) from err
    except (EOFError, gzip.BadGzipFile) as err:
        raise DataError(f"data file {path}", shown(str(err)), "a whole gzip file", "copy or pack it again") from err
    except OSError as err:  # Arrow's too
        what = err.strerror or shown(str(err), 200)
        raise DataError(f"data file {path}", what, "a readable file", "check it, its path and permissions") from err


def _decoded(line: bytes) -> str:
    """Raises ValueError naming the first byte that is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError as err:
        raise ValueError(f"byte {err.start} of the line is not UTF-8 (save the file as UTF-8)") from err


def _lines(_: Path, stream: IO[bytes]) -> Iterator[Record]:
    """One JSON value a line; lines end at LF, and blank ones are passed over. A byte order mark before an object is no
    text of it: one stands wherever files that began with it were put together."""
    for number, line in enumerate(stream, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf")
        if text.isspace() or not text:
            continue
        try:
            yield Record(number, parse(_decoded(text)))
        except ValueError as err:
            yield Record(number, reason=f"{err}{_habit(text)}")


def _habit(line: bytes) -> str:
    """What a line that is no JSON looks like, with the way out; nothing where it looks like no habit."""
    text = line.strip()
    if b"\0" in text:
        return " (a byte 0: UTF-16 text, or a file that was cut off; save it as UTF-8)"
    if b"\r" in text:
        return " (lines must end at LF, these end at CR)"
    if text.endswith(b"},"):
        return " (delete the comma behind the object, or put all between [ and ])"
    if text.startswith((b"{", b"}", b'"')):
        return " (write one object a line, as `jq -c .` does)"
    return ""


def _array(path: Path, stream: IO[bytes]) -> Iterator[Record]:
    """The items of one JSON array, read piece by piece."""
    with _text(path, stream, "\n") as text:
        yield from _items(text)


@contextmanager
def _text(path: Path, stream: IO[bytes], newline: str) -> Iterator[io.TextIOWrapper]:
    """The stream decoded. Raises DataError for bytes that are not UTF-8."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline=newline)
    try:
        yield text
    except UnicodeDecodeError as err:
        raise DataError(f"data file {path}", "a byte that is not UTF-8", "UTF-8 text", "save it as UTF-8") from err
    finally:
        text.detach()  # the stream belongs to who opened it


def _items(text: io.TextIOWrapper) -> Iterator[Record]:
    buffer, line, size = text.read(CHUNK).lstrip()[1:], 1, CHUNK
    at, ended = 0, False
    while True:
        while at < len(buffer) and buffer[at] in " \t\r\n,":
            line += buffer[at] == "\n"
            at += 1
        if at < len(buffer) and buffer[at] == "]":
            return
        try:
            if at == len(buffer):
                raise json.JSONDecodeError("cut off: no `]` at the end", "", 0)
            value, end = parse_from(buffer, at)
            if end == len(buffer) and not ended:
                raise json.JSONDecodeError("may go on", "", 0)
        except json.JSONDecodeError as err:
            if ended:
                yield Record(line, reason=f"not JSON: {err.msg}; the rest of the array is not read")
                return
            more = text.read(size)
            buffer, at, ended, size = buffer[at:] + more, 0, not more, size * 2
            continue
        except ValueError as err:
            yield Record(line, reason=f"{err}; the rest of the array is not read")
            return
        yield Record(line, value)
        line += buffer.count("\n", at, end)
        at, size = end, CHUNK
        if at > CHUNK:
            buffer, at = buffer[at:], 0


def _delimiter(header: str) -> str:
    """What parts the cells of a header line: `,`, `;` or tab, whichever stands most often outside of quotes."""
    return max(",;\t", key=_QUOTED.sub("", header).count)


def _csv(path: Path, stream: IO[bytes]) -> Iterator[Record]:
    """Rows under a header line, which Excel may precede with `sep=;`; an empty cell is no value."""
    csv.field_size_limit(1 << 30)
    with _text(path, stream, "") as text:
        first, before = text.readline(), 1
        if given := _EXCEL_MARK.fullmatch(first):
            first, before = text.readline(), 2
        delimiter = given[1] if given else "\t" if ".tsv" in path.name.lower() else _delimiter(first)
        header = next(csv.reader([first], delimiter=delimiter), [])
        if twice := next((name for name in header if name and header.count(name) > 1), None):
            raise DataError(f"data file {path}", f"its header names {shown(twice)} twice", "a name once", "rename one")
        reader, skipped = csv.reader(text, delimiter=delimiter, strict=True), before
        while True:
            line = before + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as err:
                yield Record(line, reason=f"not CSV: {err}; the rest is not read")
                return
            before = reader.line_num + skipped
            if cells and len(cells) != len(header):
                names = shown(delimiter.join(header))
                yield Record(line, reason=f"{len(cells)} cells under a header of {len(header)}, {names}")
            elif cells:
                yield Record(line, {name: cell for name, cell in zip(header, cells, strict=True) if cell})


def _parquet(path: Path) -> Iterator[Record]:
    """Rows of a Parquet file. Its lists of records hold every key of any row, so keys without a value are left out."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    with _named(path):
        try:
            line = 0
            with ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=1024):
                    for value in batch.to_pylist():
                        line += 1
                        yield Record(line, _without_nulls(value))
        except (pyarrow.ArrowException, UnicodeDecodeError) as err:
            raise DataError(
                f"data file {path}", shown(str(err), 200), "a sound Parquet file", "write it again"
            ) from err


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value
