"""Records as pydantic models: the first field that does not fit is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from slipway.agent import records
from slipway.errors import StateError
from slipway.system import json_files
from slipway.system.json_files import as_model, read_model

NEXT = "do this next"


class Row(BaseModel):
    """What a good file holds."""

    name: str
    count: int


def test_a_good_file_is_its_model(tmp_path: Path) -> None:
    file = tmp_path / "row.json"
    file.write_text('{"name": "ä", "count": 2}', encoding="utf-8")
    assert read_model(Row, file, "row", NEXT) == Row(name="ä", count=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}", "name: "), ('{"name": "a", "count": "many"}', "count: many"), ("[]", r"\[\]; expected a JSON object")],
)
def test_a_field_that_does_not_fit_is_named_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "row.json"
    file.write_text(text)
    with pytest.raises(StateError, match=rf"row: {file}: .*{message}"):
        read_model(Row, file, "row", NEXT)


def test_a_document_that_is_none_is_refused() -> None:
    with pytest.raises(StateError, match="the document: 3"):
        as_model(Row, 3, "row", NEXT)


def test_what_the_agent_reads_is_handed_on() -> None:
    shared = set(json_files.__all__) - {"as_model", "read_model"}
    assert {name for name in shared if getattr(json_files, name) is not getattr(records, name)} == set()
