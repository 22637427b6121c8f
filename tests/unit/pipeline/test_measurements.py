"""What stages took: written line by line, read whatever happened to the file."""

from __future__ import annotations

from pathlib import Path

from slipway.pipeline.measurements import FILE, Figures, add_measurement, read_measurements, this_machine

MADE = {
    "title": "merge",
    "key": "k",
    "group": "merge",
    "amount": 5.0,
    "measured": Figures(seconds=2, peak_bytes=3, disk_bytes=4),
}


def test_none_before_the_first(tmp_path: Path) -> None:
    assert read_measurements(tmp_path).rows == []


def test_what_was_written_is_read_with_this_machine(tmp_path: Path) -> None:
    add_measurement(tmp_path, MADE)
    add_measurement(tmp_path, {**MADE, "predicted": Figures(seconds=1, peak_bytes=1, disk_bytes=1)})
    first, second = read_measurements(tmp_path).rows
    assert (first.machine, first.measured.seconds, first.predicted) == (this_machine(), 2, None)
    assert second.predicted and second.predicted.seconds == 1


def test_a_cut_or_foreign_line_is_counted_and_the_next_one_stands_whole(tmp_path: Path) -> None:
    add_measurement(tmp_path, MADE)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"title": "mer')
    add_measurement(tmp_path, MADE)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b"\xff\xfe\n[]\n")
    record = read_measurements(tmp_path)
    assert (len(record.rows), record.unreadable) == (2, 3)
