"""Complete lines appended since the last look."""

from __future__ import annotations

from slipway.system.tail import Tail


def test_lines_are_read_once_and_a_half_written_one_waits(tmp_path):
    file = tmp_path / "log"
    tail = Tail(file)
    assert list(tail.lines()) == []
    file.write_text("a\nb")
    assert list(tail.lines()) == ["a\n"]
    assert list(tail.lines()) == []
    with file.open("a") as out:
        out.write("c\nd\n")
    assert list(tail.lines()) == ["bc\n", "d\n"]


def test_a_file_replaced_by_a_shorter_one_is_read_anew(tmp_path):
    file = tmp_path / "log"
    file.write_text("one\ntwo\n")
    tail = Tail(file)
    assert len(list(tail.lines())) == 2
    file.write_text("new\n")
    assert list(tail.lines()) == ["new\n"]


def test_an_interrupted_reader_goes_on_after_the_line_it_had(tmp_path):
    file = tmp_path / "log"
    file.write_text("one\ntwo\n")
    tail = Tail(file)
    assert next(tail.lines()) == "one\n"
    assert list(tail.lines()) == ["two\n"]


def test_bytes_that_are_no_text_are_replaced(tmp_path):
    (tmp_path / "log").write_bytes(b"\xff\n")
    assert list(Tail(tmp_path / "log").lines()) == ["\ufffd\n"]


def test_events_are_json_objects_and_anything_else_is_shown_as_a_note(tmp_path):
    (tmp_path / "log").write_text('{"event": "metric", "step": 1}\n\0\0\0\n[1]\n{"event": "half"')
    events = list(Tail(tmp_path / "log").events())
    assert events[0] == {"event": "metric", "step": 1}
    assert [e["event"] for e in events[1:]] == ["note", "note"]
    assert events[2]["text"] == "unreadable event: [1]"
