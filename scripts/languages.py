"""Write the rows of the example task `languages`: a name in one of twelve languages, and which language that is.

The names are those of countries, currencies, scripts and languages with their translations, which the iso-codes project
gathered and the package `pycountry` carries (LGPL-2.1). A name that several of the twelve languages spell alike is left
out, as it has no one answer. The template of a row is what the name stands for, so that held-out rows are names of
things of which training saw no language's name.

    python -m scripts.languages --out data/raw/languages.jsonl --seed 17
"""

from __future__ import annotations

import gettext
import io
import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from scripts.package_rows import Wheel, chat_row, run, shuffle_key

WHEEL = Wheel("pycountry", "26.2.16", "115c4baf7cceaa30f59a4694d79483c9167dbce7a9de4d3d571c5f3ea77c305a")
SYSTEM = "Which language is this?"
ENGLISH = "English"
LANGUAGES = {
    "cs": "Czech",
    "de": "German",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hu": "Hungarian",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "tr": "Turkish",
}
# Of languages only those with a two-letter code: few translators went through the seven thousand others
STANDARDS = {"iso3166-1": None, "iso4217": None, "iso15924": None, "iso639-3": "alpha_2"}


def names(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Every thing of the standards: its English name, and the standard it stands in."""
    for standard, needed in STANDARDS.items():
        entries = json.loads(archive.read(f"pycountry/databases/{standard}.json"))[standard.removeprefix("iso")]
        yield from ((entry["name"], standard) for entry in entries if needed is None or needed in entry)


def rows(archive: zipfile.ZipFile, seed: int) -> Iterator[dict[str, Any]]:
    """Chat rows in an order that depends on the seed only."""
    languages_of: dict[str, dict[str, str]] = defaultdict(dict)  # name -> its languages, each with the thing's name
    catalogues = {(code, standard): _catalogue(archive, code, standard) for code in LANGUAGES for standard in STANDARDS}
    for english, standard in names(archive):
        languages_of[english].setdefault(ENGLISH, english)
        for code, language in LANGUAGES.items():
            languages_of[catalogues[code, standard].gettext(english)].setdefault(language, english)
    for name in sorted(languages_of, key=lambda name: shuffle_key(seed, name)):
        if len(languages_of[name]) == 1:
            ((language, english),) = languages_of[name].items()
            yield chat_row(f"{language}: {name}", SYSTEM, name, language, label=language, template=english)


def _catalogue(archive: zipfile.ZipFile, code: str, standard: str) -> gettext.GNUTranslations:
    return gettext.GNUTranslations(io.BytesIO(archive.read(f"pycountry/locales/{code}/LC_MESSAGES/{standard}.mo")))


if __name__ == "__main__":
    sys.exit(run((__doc__ or "").splitlines()[0], WHEEL, rows))
