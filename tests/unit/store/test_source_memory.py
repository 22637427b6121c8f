"""Analyses of sources that outlive the process: the same digests, and never of another text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.store import source_memory
from slipway.store.source_code import Source, analyse
from slipway.store.source_memory import FILE, known, remembered

TEXT = "from slipway.system import files\nname = 'slipway.errors'\n"


def never(*_: object) -> Source:
    raise AssertionError("analysed again")


def test_the_second_process_takes_what_the_first_left(tmp_path: Path) -> None:
    with remembered(tmp_path):
        first = known(analyse, TEXT, "data.x", False)
    with remembered(tmp_path):
        assert known(never, TEXT, "data.x", False) == first == analyse(TEXT, "data.x", False)


@pytest.mark.parametrize(
    ("text", "name", "package"), [(TEXT + "a = 1\n", "data.x", False), (TEXT, "data.y", False), (TEXT, "data.x", True)]
)
def test_another_text_name_or_kind_is_another_entry(tmp_path: Path, text: str, name: str, package: bool) -> None:
    with remembered(tmp_path):
        known(analyse, TEXT, "data.x", False)
    with remembered(tmp_path), pytest.raises(AssertionError, match="again"):
        known(never, text, name, package)


@pytest.mark.parametrize("content", ["", "{", '{"of": 1}', '{"of": "another version", "sources": {}}', "[]"])
def test_a_file_that_is_damaged_or_of_another_version_costs_time_only(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with remembered(tmp_path):
        assert known(analyse, TEXT, "data.x", False) == analyse(TEXT, "data.x", False)
    assert json.loads((tmp_path / FILE).read_text())["sources"]


def test_without_a_block_nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with remembered(tmp_path):
        known(analyse, TEXT, "data.x", False)
    assert known(analyse, TEXT, "data.x", False)
    with pytest.raises(AssertionError, match="again"):
        known(never, TEXT, "data.x", False)
    with monkeypatch.context() as patch, remembered(tmp_path):
        patch.setattr(source_memory, "write_atomic", never)
        known(never, TEXT, "data.x", False)
