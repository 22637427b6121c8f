"""The looks on the disk: appended whole, read back, one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import ResourceError, StateError
from slipway.store.usage import entries
from slipway.watch.look_record import LookRecord

LOOK = {"at_s": 5.0, "release": "0001-ab", "created": "c", "outcome": "ok"}


def test_looks_are_kept_in_order(tmp_path: Path) -> None:
    record = LookRecord(tmp_path, "local")
    assert record.looks() == []
    record.add(LOOK)
    record.add({**LOOK, "at_s": 6.0})
    assert [(one.at_s, one.document["outcome"]) for one in record.looks()] == [(5.0, "ok"), (6.0, "ok")]
    assert entries(tmp_path) == []  # known to `slipway gc`


def test_a_half_written_line_is_passed_over_and_cut_off(tmp_path: Path) -> None:
    record = LookRecord(tmp_path, "a/b")
    record.add(LOOK)
    with record.file.open("a") as file:
        file.write('{"at_s": 9.')
    assert len(record.looks()) == 1
    record.add({**LOOK, "at_s": 7.0})
    assert [one.at_s for one in record.looks()] == [5.0, 7.0]


@pytest.mark.parametrize("line", ["[]", "{}", '{"at_s": "x", "release": "r", "created": "c"}', "x"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    record = LookRecord(tmp_path, "local")
    record.add(LOOK)
    record.file.write_text(record.file.read_text() + line + "\n")
    with pytest.raises(StateError, match="line 2"):
        record.looks()


def test_one_look_at_a_time(tmp_path: Path) -> None:
    other = LookRecord(tmp_path, "local")
    with (
        LookRecord(tmp_path, "local").open(),
        pytest.raises(ResourceError, match="looks at local"),
        other.open(),
    ):
        pass
