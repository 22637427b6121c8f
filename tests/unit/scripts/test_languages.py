"""The rows of the example task `languages`, from a small wheel of the form of pycountry's."""

from __future__ import annotations

import io
import json
import struct
import zipfile

import pytest

from scripts.languages import LANGUAGES, STANDARDS, rows


def catalogue(texts: dict[str, str]) -> bytes:
    """A gettext .mo file (GNU gettext manual, 10.3): tables of lengths and offsets, then the texts."""
    texts = {"": "Content-Type: text/plain; charset=UTF-8\n", **texts}
    pairs = sorted((k.encode(), v.encode()) for k, v in texts.items())
    tables, strings, at = [b"", b""], b"", 28 + 16 * len(pairs)
    for column in (0, 1):
        for pair in pairs:
            tables[column] += struct.pack("<II", len(pair[column]), at)
            strings += pair[column] + b"\0"
            at += len(pair[column]) + 1
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 28 + 16 * len(pairs))
    return head + tables[0] + tables[1] + strings


@pytest.fixture(scope="module")
def archive() -> zipfile.ZipFile:
    entries = {
        "iso3166-1": [{"name": "Germany"}, {"name": "Angola"}],
        "iso4217": [{"name": "Euro"}],
        "iso15924": [],
        "iso639-3": [{"name": "Basque", "alpha_2": "eu"}, {"name": "Ghotuo"}],
    }
    german = {"Germany": "Deutschland", "Basque": "Baskisch"}
    dutch = {"Germany": "Duitsland", "Basque": "Baskisch"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        for standard in STANDARDS:
            content = json.dumps({standard.removeprefix("iso"): entries[standard]})
            wheel.writestr(f"pycountry/databases/{standard}.json", content)
            for code in LANGUAGES:
                texts = {"de": german, "nl": dutch}.get(code, {})
                wheel.writestr(f"pycountry/locales/{code}/LC_MESSAGES/{standard}.mo", catalogue(texts))
    return zipfile.ZipFile(buffer)


def test_a_name_has_its_language_and_one_that_several_share_is_left_out(archive: zipfile.ZipFile) -> None:
    made = list(rows(archive, 17))
    # `Germany`, `Angola` and `Euro` stand untranslated in ten catalogues or more, `Baskisch` is German and Dutch
    assert {(row["messages"][1]["content"], row["label"], row["template"]) for row in made} == {
        ("Deutschland", "German", "Germany"),
        ("Duitsland", "Dutch", "Germany"),
    }
    assert all(row["messages"][2]["content"] == row["label"] for row in made)


def test_the_order_depends_on_the_seed_alone(archive: zipfile.ZipFile) -> None:
    assert list(rows(archive, 17)) == list(rows(archive, 17))
    assert len({tuple(row["id"] for row in rows(archive, seed)) for seed in range(12)}) == 2
