"""Write the rows of the example task `spelling`: a misspelt word, and the word that was meant.

The pairs come from the dictionary of the package `codespell` (CC-BY-SA-3.0, from Wikipedia's list of common
misspellings and twenty years of corrections in source code). Entries with several corrections are left out, as are
those with other signs than letters. The template of a row is the word that was meant, so that held-out rows are words
that training never saw spelt wrongly.

    python -m scripts.spelling --out data/raw/spelling.jsonl --seed 17
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from scripts.package_rows import Wheel, chat_row, run, shuffle_key

WHEEL = Wheel("codespell", "2.4.3", "af2505b335e8573dbd2d384d1c4ef498f4006f4ba2d6fceca01e55b91f52628a")
SYSTEM = "Correct the spelling."
ENTRY = re.compile(r"([a-z]{5,})->([a-z]{5,})")
WORDS, PER_WORD = 1500, 2  # of some 12,000 words with one to 30 misspellings each: what a CPU trains on in minutes


def pairs(text: str) -> dict[str, list[str]]:
    """Misspellings of each word in the dictionary's text: lines `wrong->right`, some with reasons or several rights."""
    misspellings: dict[str, list[str]] = defaultdict(list)
    for line in text.split("\n"):
        if entry := ENTRY.fullmatch(line.strip()):
            misspellings[entry[2]].append(entry[1])
    return misspellings


def rows(archive: zipfile.ZipFile, seed: int) -> Iterator[dict[str, Any]]:
    """Chat rows of words drawn by the seed, their misspellings too."""
    misspellings = pairs(archive.read("codespell_lib/data/dictionary.txt").decode("utf-8"))
    for word in sorted(misspellings, key=lambda word: shuffle_key(seed, word))[:WORDS]:
        for wrong in sorted(misspellings[word], key=lambda wrong: shuffle_key(seed, wrong))[:PER_WORD]:
            yield chat_row(wrong, SYSTEM, wrong, word, template=word)


if __name__ == "__main__":
    sys.exit(run((__doc__ or "").splitlines()[0], WHEEL, rows))
