"""The rows of the example task `spelling`, from lines of the form of codespell's dictionary."""

from __future__ import annotations

import io
import zipfile

from scripts.spelling import PER_WORD, WORDS, pairs, rows

LINES = """abandonned->abandoned
abandonded->abandoned
abondoned->abandoned
alledge->allege, allegee,
clas->class, disabled because of names
2rd->2nd
wierd->weird
"""


def test_only_entries_with_one_correction_in_letters_are_taken() -> None:
    assert pairs(LINES) == {"abandoned": ["abandonned", "abandonded", "abondoned"], "weird": ["wierd"]}


def test_rows_are_misspellings_with_the_word_as_template() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr("codespell_lib/data/dictionary.txt", LINES)
    made = list(rows(zipfile.ZipFile(buffer), 17))
    assert made == list(rows(zipfile.ZipFile(buffer), 17))
    assert sorted(row["template"] for row in made) == ["abandoned"] * PER_WORD + ["weird"]
    assert len({row["template"] for row in made}) <= WORDS
    assert all(row["messages"][2]["content"] == row["template"] and "label" not in row for row in made)
