"""Files that others may have touched: every kind of garbage is one StateError that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.agent import records
from slipway.agent.records import Fields, is_present, read_json, read_json_lines, read_json_list
from slipway.errors import StateError
from tests.support.garbage import GARBAGE, Garbage, unprivileged, walkable

NEXT = "do this next"


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda g: g.name)
def test_garbage_is_one_error_that_names_the_file_and_the_next_step(
    tmp_path: Path, garbage: Garbage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 1 << 20)
    file = tmp_path / "row.json"
    file.write_text(json.dumps({"name": "a", "count": 1}))
    garbage.put(file)
    with pytest.raises(StateError) as caught, garbage.around():
        fields = Fields(read_json(file, "row", NEXT), f"row: {file}", NEXT)
        fields.text("name")
        fields.integer("count")
    error = caught.value
    assert str(file) in error.thing
    assert (error.next_step, error.exit_code) == (NEXT, 2)
    assert len(str(error)) < 1000
    assert is_present(file)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "row.json"
    file.write_text('{"name": "ä", "count": 2}', encoding="utf-8")
    assert read_json(file, "row", NEXT) == {"name": "ä", "count": 2}


def test_an_absent_file_is_absent_and_an_error_to_read(tmp_path: Path) -> None:
    assert not is_present(tmp_path / "none.json")
    assert not is_present(tmp_path / "no folder" / "none.json")
    with pytest.raises(StateError, match="No such file"):
        read_json(tmp_path / "none.json", "row", NEXT)


def test_a_wrong_line_is_named_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text('{"a": 1}\n{"a": 2}\n{"a": \n')
    with pytest.raises(StateError, match=r"lines\.jsonl, line 3"):
        read_json_lines(file, "history", NEXT)
    file.write_text('{"a": 1}\n[2]\n')
    with pytest.raises(StateError, match=r"line 2.*\[2\]; expected a JSON object"):
        read_json_lines(file, "history", NEXT)
    file.write_text('{"a": 1}\n{"a": 2}\n')
    assert read_json_lines(file, "history", NEXT) == [{"a": 1}, {"a": 2}]


def test_a_list_of_objects_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text('[{"a": 1}]')
    assert read_json_list(file, "rows", NEXT) == [{"a": 1}]
    for text in ("{}", "[1]", "null"):
        file.write_text(text)
        with pytest.raises(StateError, match="JSON array of objects"):
            read_json_list(file, "rows", NEXT)


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    walkable(folder)
    folder.chmod(0)
    try:
        with pytest.raises(StateError, match=r"closed.*[Pp]ermission"), unprivileged():
            is_present(folder / "row.json")
    finally:
        folder.chmod(0o700)


GOOD = {"text": "a", "whole": 2, "real": 1.5, "flag": True, "texts": ["a"], "map": {"a": "b"}, "rows": [{}], "doc": {}}
GETTERS = {
    "text": Fields.text, "whole": Fields.integer, "real": Fields.number, "flag": Fields.flag, "texts": Fields.texts,
    "map": Fields.text_map, "rows": Fields.objects, "doc": Fields.document,
}  # fmt: skip


@pytest.mark.parametrize("key", GETTERS)
def test_a_value_is_of_its_type_or_refused_with_its_key(key: str) -> None:
    read = GETTERS[key]
    value = read(Fields(GOOD, "row", NEXT), key)
    assert (list(value) if isinstance(value, tuple) else value) == GOOD[key]
    wrong_values: list[object] = [[None], float("nan"), None]
    wrong_values += [] if key == "doc" else [{"a": 1}]
    wrong_values += [] if key == "flag" else [True]
    wrong_values += [-1.0, "a"] if key == "real" else []
    for wrong in wrong_values:
        with pytest.raises(StateError, match=rf"row: {key}: .*Next: {NEXT}"):
            read(Fields({**GOOD, key: wrong}, "row", NEXT), key)
    with pytest.raises(StateError, match=f"{key}: absent"):
        read(Fields({}, "row", NEXT), key)


def test_a_text_has_the_form_that_is_asked_for_and_a_default_where_there_is_one() -> None:
    fields = Fields({"name": "x1", "none": None}, "row", NEXT)
    assert fields.text("name", pattern=r"x\d") == "x1"
    with pytest.raises(StateError, match="name: x1; expected a text of the form"):
        fields.text("name", pattern="x")
    assert (fields.text("none", "d"), fields.integer("absent", 3)) == ("d", 3)
