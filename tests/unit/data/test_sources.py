"""Files of records in every kind and packing, and those that are none."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from slipway.data import sources
from slipway.data.sources import open_source
from slipway.errors import DataError

ROWS = [{"a": "x\u2028y", "n": 1}, {"a": '\U0001f600,\n"q"', "n": 2}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read(path: Path) -> tuple[str, list[Any]]:
    source = open_source(path)
    return source.kind, [record.value if not record.reason else record.reason for record in source.records]


def zstd(data: bytes) -> bytes:
    return bytes(pyarrow.Codec("zstd").compress(data, asbytes=True))


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("r.jsonl", LINES, "JSON lines"),
        ("r.jsonl", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n"), "JSON lines"),
        ("r.jsonl", b"".join(b"\xef\xbb\xbf" + line for line in LINES.splitlines(True)), "JSON lines"),
        ("r.jsonl", LINES.replace(b"\n", b"\n\n").rstrip(), "JSON lines"),
        ("r.json", json.dumps(ROWS).encode(), "JSON array"),
        ("r.json", b"\xef\xbb\xbf \n" + json.dumps(ROWS, indent=2, ensure_ascii=False).encode(), "JSON array"),
        ("r.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0), "JSON array, gzip"),
        ("r.gz", gzip.compress(LINES, mtime=0), "JSON lines, gzip"),
        ("any-name", zstd(LINES), "JSON lines, zstd"),
    ],
)
def test_json_is_recognised_by_its_bytes(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    assert read(write(tmp_path / name, data)) == (kind, ROWS)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv_has_a_header_and_empty_cells_are_no_values(tmp_path: Path, mark: str) -> None:
    text = f'prompt{mark}completion{mark}id\r\n"a{mark} ""b""\nc"{mark}yes{mark}\r\n\r\nd{mark}no{mark}7\r\n'
    source = open_source(write(tmp_path / "r.csv", b"\xef\xbb\xbf" + text.encode()))
    records = list(source.records)
    assert source.kind == "CSV"
    assert [r.value for r in records] == [
        {"prompt": f'a{mark} "b"\nc', "completion": "yes"},
        {"prompt": "d", "completion": "no", "id": "7"},
    ]
    assert [r.line for r in records] == [2, 5]
    assert read(write(tmp_path / "r.csv.gz", gzip.compress(text.encode(), mtime=0)))[0] == "CSV, gzip"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", "sep=;\r\nprompt;completion\r\na, b;c\r\n"),  # Excel's mark
        ("r.csv", 'prompt;completion;"notes, and, more"\na, b;c;\n'),
        ("r.tsv", "prompt\tcompletion\ta,b,c,d\na, b\tc\t\n"),
        ("r.txt", '"prompt","completion"\n"a, b",c\n'),
    ],
)
def test_a_table_is_recognised_and_parted_by_its_header(tmp_path: Path, name: str, text: str) -> None:
    assert read(write(tmp_path / name, text.encode())) == ("CSV", [{"prompt": "a, b", "completion": "c"}])


def test_a_column_that_a_header_names_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its header names 'completion' twice"):
        read(write(tmp_path / "r.csv", b"prompt,completion,completion\na,b,c\n"))


@pytest.mark.parametrize(
    ("data", "way_out"),
    [
        ('{"a": 1},\n', "delete the comma"),
        ('{\n  "a": 1\n}\n', "one object a line"),
        ('{"a": 1}\r{"a": 2}\r', "must end at LF"),
        ('{"a": 1}\n' + "\0" * 9, "cut off"),
        ('\0{"a": 1}\n', "UTF-16"),
    ],
)
def test_habits_that_are_no_json_lines_have_a_way_out(tmp_path: Path, data: str, way_out: str) -> None:
    records = list(open_source(write(tmp_path / "r.jsonl", data.encode())).records)
    assert way_out in records[-1].reason


def test_parquet_rows_lose_keys_without_a_value(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "a"}]}, {"messages": [{"role": "user", "name": "n"}]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows")
    kind, values = read(tmp_path / "rows")
    assert kind == "Parquet"
    assert values == [rows[0], {"messages": [{"role": "user"}]}] or values == rows


def test_lines_are_numbered_and_bad_ones_carry_a_reason(tmp_path: Path) -> None:
    records = list(open_source(write(tmp_path / "f", b'{"a": 1}\n\n{\n{"a": "\xff"}\n[1]\n')).records)
    assert [r.line for r in records] == [1, 3, 4, 5]
    assert "not JSON" in records[1].reason
    assert "byte 7 of the line is not UTF-8" in records[2].reason
    assert records[3].value == [1]


def test_items_of_an_array_are_read_in_pieces_and_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK", 7)
    items = [{"text": "x" * n, "n": n} for n in range(30)]
    path = write(tmp_path / "f", ("[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]\n").encode())
    records = list(open_source(path).records)
    assert [r.value for r in records] == items
    assert [r.line for r in records] == list(range(2, 32))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'[{"a": 1}, {"a": ', "not JSON"),
        (b'[{"a": 1}, {"a": 1, "a": 2}]', "stands twice"),
        (b'[{"a": 1}', "cut off"),
        (b'[{"a": 1}, ' + b"[" * 100_000, "nested too deep"),
    ],
)
def test_an_array_is_read_up_to_what_is_no_json(tmp_path: Path, data: bytes, reason: str) -> None:
    records = list(open_source(write(tmp_path / "f", data)).records)
    assert records[0].value == {"a": 1}
    assert reason in records[-1].reason
    assert len(records) == 2


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("f", b"BZh91AY", "bzip2"),
        ("f", b"PK\x03\x04zip", "a zip archive"),
        ("f", "a".encode("utf-16"), "UTF-16"),
        ("f", gzip.compress(LINES, mtime=0)[:-9], "gzip"),
        ("f", zstd(LINES)[:-3], "readable file"),
        ("f", b"PAR1 and no more", "Parquet"),
        ("f.json", b'[{"a": "\xff"}]', "UTF-8"),
        ("f.csv", b"a,b\n\xff,2\n", "UTF-8"),
    ],
)
def test_what_is_no_such_file_is_one_error_that_names_it(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as err:
        read(write(tmp_path / name, data))
    assert str(tmp_path / name) in str(err.value)
    assert len(str(err.value)) < 600


def test_a_csv_row_of_another_width_is_named(tmp_path: Path) -> None:
    _, values = read(write(tmp_path / "f.csv", b'a,b\n1,2,3\n1,2\n"x\n'))
    assert values[0] == "3 cells under a header of 2, 'a,b'"
    assert values[1] == {"a": "1", "b": "2"}
    assert "not CSV" in values[2]


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="data file"):
            open_source(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match=r"rows\.jsonl: a pipe or a device.*write it into a file first"):
        open_source(tmp_path / "rows.jsonl")
