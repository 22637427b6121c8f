"""The house's statistics, on a file whose figures are counted by hand, and on the house itself."""

import json
import subprocess
import sys

import pytest

from scripts import house

SOURCE = '''"""A module."""
# one comment
found = "# no comment"  # another


def documented(value):
    """Says what it does."""

    def nested():
        return value

    return nested


class Thing:
    """A thing."""

    def method(self):
        return found

    def _private(self):
        return 1


def bare():
    return 1


class _Hidden:
    def inside(self):
        return 2
'''


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(house, "ROOT", tmp_path)
    (tmp_path / "module.py").write_text(SOURCE)
    return tmp_path / "module.py"


def test_lines_of_functions_are_counted_from_def_to_the_last_statement(file):
    assert sorted(house.function_lengths(file)) == [2, 2, 2, 2, 2, 7]


def test_public_names_without_a_docstring(file):
    assert list(house.undocumented(file)) == ["module.py:18 Thing.method", "module.py:25 bare"]


def test_a_module_without_a_docstring_is_named_and_an_empty_one_is_not(file):
    file.write_text("x = 1\n")
    assert list(house.undocumented(file)) == ["module.py:1 module"]
    file.write_text("")
    assert list(house.undocumented(file)) == []


def test_prose_names_are_identifiers_not_words_of_text(file):
    assert house.prose_names(file) == ["module.py:3 found", "module.py:19 found"]
    file.write_text('"""What was found."""\nprofound = own_words = _own_words = "told"\n')
    assert house.prose_names(file) == ["module.py:2 own_words", "module.py:2 _own_words"]


def test_a_room_is_counted(file):
    counted = house.statistics_of("room", [file])
    assert (counted.modules, counted.lines, counted.functions, counted.median) == (1, 31, 6, 2)
    assert (counted.wide, counted.undocumented, counted.prose) == (0, 2, 2)
    assert counted.comments == 64.5, "two in 31 lines"
    file.write_text(SOURCE + "#" * 121 + "\n")
    assert house.statistics_of("room", [file]).wide == 1


def test_the_command_prints_a_row_for_every_room():
    shown = subprocess.run(
        [sys.executable, "-m", "scripts.house", "--json"], capture_output=True, text=True, check=True
    )
    rows = {row["room"]: row for row in json.loads(shown.stdout)}
    rooms = {f"slipway/{p.parent.name}" for p in (house.ROOT / "src/slipway").glob("*/__init__.py")}
    assert rooms and rooms < set(rows)
    assert rows["src/slipway"]["modules"] == len(list((house.ROOT / "src/slipway").rglob("*.py")))
    table = house.table([house.statistics_of("scripts", house.rooms()["scripts"])]).splitlines()
    assert table[0].split()[:3] == ["room", "modules", "lines"] and table[1].split()[0] == "scripts"
