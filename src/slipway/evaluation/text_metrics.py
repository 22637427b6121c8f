"""Metrics of answers as text: equal, containing, matching a pattern, the same number.

Texts are compared in Unicode's canonical composition (NFC: é is one character however it was typed) and without white
space around them; case and punctuation count unless the config says otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from slipway.errors import ConfigError
from slipway.evaluation.metric import Metric
from slipway.evaluation.scorer import Example, Scorer

Normal = Callable[[str], str]
# thousands by comma in groups of three, else plain digits; a sign belongs to a number that no word or digit precedes
LONGEST_MATCH_S = 5.0  # of one text; a sound pattern needs microseconds

_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?")


def normaliser(*, ignore_case: bool, ignore_punctuation: bool) -> Normal:
    """How texts are spelt before they are compared."""

    def normal(text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        if ignore_case:
            text = unicodedata.normalize("NFC", text.casefold())
        if ignore_punctuation:
            text = " ".join("".join(" " if unicodedata.category(c).startswith("P") else c for c in text).split())
        return text.strip()

    return normal


def exact(normal: Normal) -> Scorer:
    """`exact`: the answer is the expected text."""
    return Scorer(Metric("exact", "exact match"), lambda e: float(normal(e.answer) == normal(e.expected)))


def contains(normal: Normal) -> Scorer:
    """`contains`: the expected text stands somewhere in the answer; items that expect no text are left out."""

    def score(example: Example) -> float | None:
        expected = normal(example.expected)
        return float(expected in normal(example.answer)) if expected else None

    return Scorer(Metric("contains", "contains the reference"), score)


def matches(pattern: str, normal: Normal) -> Scorer:
    """`regex`: the last match of `pattern` in the answer is the one in the expected answer (its groups where it has
    some); items whose expected answer does not match are left out.

    Its scores raise ConfigError for a pattern that takes longer than `LONGEST_MATCH_S` on one text: nested repeats make
    the search exponential in the text's length.
    """
    import regex  # bounds the time of a search, which the standard library does not

    compiled = regex.compile(pattern)

    def last(text: str) -> tuple[str, ...] | None:
        match = None
        try:
            for match in compiled.finditer(text, timeout=LONGEST_MATCH_S):  # noqa: B007 - the last one is wanted
                pass
        except TimeoutError:
            raise ConfigError(
                "evaluate.pattern",
                pattern,
                f"a search of less than {LONGEST_MATCH_S:.0f} s; it did not end on {text[:80]!r}",
                "avoid repeats of repeats, such as (a+)+",
            ) from None
        return None if match is None else tuple(normal(group or "") for group in match.groups() or (match[0],))

    def score(example: Example) -> float | None:
        expected = last(unicodedata.normalize("NFC", example.expected))
        return None if expected is None else float(last(unicodedata.normalize("NFC", example.answer)) == expected)

    return Scorer(Metric("regex", "same by pattern"), score)


def numeric(absolute: float, relative: float) -> Scorer:
    """`numeric`: the last number of the answer is the last one of the expected answer, within `absolute` or within
    `relative` times the expected one; items that expect no number are left out."""

    def score(example: Example) -> float | None:
        expected, answer = last_number(example.expected), last_number(example.answer)
        if expected is None:
            return None
        tolerance = max(Decimal(repr(absolute)), Decimal(repr(relative)) * abs(expected))
        return float(answer is not None and abs(answer - expected) <= tolerance)

    return Scorer(Metric("numeric", "numeric match"), score)


def is_number(text: str) -> bool:
    """Whether a text is one number and nothing else."""
    return _NUMBER.fullmatch(unicodedata.normalize("NFKC", text).strip()) is not None


def last_number(text: str) -> Decimal | None:
    """The last decimal number in a text: `1,234.5`, `-3`, `.5`, `2e-3`; None without one."""
    numbers = _NUMBER.findall(unicodedata.normalize("NFKC", text))
    try:
        return Decimal(numbers[-1].replace(",", "").replace("\u2212", "-")) if numbers else None
    except InvalidOperation:  # digits of scripts that Decimal does not mix
        return None
