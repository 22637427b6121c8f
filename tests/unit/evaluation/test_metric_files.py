"""Schemas and prompts in files: read once, refused with file and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import ConfigError
from slipway.evaluation.judge import PROMPT
from slipway.evaluation.metric_files import json_schema, judge_prompt


def test_a_schema_is_read_and_none_is_none(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"type": "object"}')
    assert (json_schema(str(file)), json_schema(None)) == ({"type": "object"}, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"type": "objekt"}', "type"),
        (b'{"type": "object", "type": "array"}', "stands twice"),
        (b"[]", "a JSON list"),
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_what_is_no_schema_is_refused_by_name(tmp_path: Path, text: bytes, words: str) -> None:
    file = tmp_path / "schema.json"
    file.write_bytes(text)
    with pytest.raises(ConfigError, match=rf"evaluate\.json_schema: .*schema\.json.*{words}"):
        json_schema(str(file))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.judge\.prompt: .*gone"):
        judge_prompt(str(tmp_path / "gone"))


def test_a_prompt_must_have_its_places(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("{request} {a}")
    with pytest.raises(ConfigError, match=r"lacks \{b\}"):
        judge_prompt(str(file))
    assert judge_prompt(None) == PROMPT
