"""Degeneration of long answers: how much of a text is said again.

    share = 1 - distinct n-grams / n-grams,  n = 8 words

0 where nothing of 8 words stands twice, near 1 in a loop; the complement of distinct-n (Li et al. (2016), NAACL,
110-119), as `rep-n` in Welleck et al. (2020), ICLR. Words are what stands between white space; a text without any, as
in Chinese or Thai, is cut into its characters. Short answers have no value: their few n-grams say nothing.
"""

from __future__ import annotations

N = 8  # words: longer than common phrases, shorter than a sentence that loops
LONG = 32  # words from which on an answer counts as long
WORDS_OF_TEXT = 0.1  # fewer words than this share of the characters: a script that does not part its words


def repeated_share(text: str) -> float | None:
    """The share of repeated 8-grams of an answer, None for one of fewer than 32 words (or characters, see above)."""
    units = _units(text)
    if len(units) < LONG:
        return None
    grams = [tuple(units[i : i + N]) for i in range(len(units) - N + 1)]
    return 1 - len(set(grams)) / len(grams)


def _units(text: str) -> list[str]:
    """Words, or the characters of a text that has almost no white space."""
    words = text.split()
    characters = "".join(words)
    return words if len(words) >= WORDS_OF_TEXT * len(characters) else list(characters)
