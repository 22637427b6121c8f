"""What of a text counts when rows are compared.

- `folded`: the text itself, but for case, canonically equal spellings (NFC) and the amount of white space. Symbols,
  punctuation, emoji and combining marks count.
- `tokens`: words with their combining marks, every character of scripts that write without spaces (Chinese, Japanese,
  Thai, Lao, Khmer, Burmese), and every symbol; the punctuation of sentences does not count.
- `words`: the tokens that hold a letter or a digit.
"""

from __future__ import annotations

import unicodedata

import regex

_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_SENTENCE = r"""[.,;:!?'"()\[\]{}\-\u00a1\u00a7\u00ab\u00b7\u00bb\u00bf\u2010-\u2027\u2030-\u205e\u3000-\u303f]"""
_TOKEN = regex.compile(
    rf"(?V1)[{_SPACELESS}]\p{{M}}*+|[[\p{{L}}\p{{N}}\p{{M}}_]--[{_SPACELESS}]]++|[[\p{{S}}\p{{P}}]--{_SENTENCE}]\p{{M}}*+"
)
_WORD = regex.compile(r"[\p{L}\p{N}]")


def folded(text: str) -> str:
    """The text without what spelling it otherwise may change: case, composed characters, runs of white space."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def tokens(text: str) -> list[str]:
    """Words, characters and symbols in their order; the pieces between spaces where there are none."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return _TOKEN.findall(plain) or plain.split()


def words(text: str) -> list[str]:
    """The tokens with a letter or digit; all of them where none has."""
    every = tokens(text)
    return [token for token in every if _WORD.search(token)] or every
