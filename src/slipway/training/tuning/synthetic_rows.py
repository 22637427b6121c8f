"""Chat rows for probes when there are no data yet: random common words, document lengths as instruction data have them.

Lengths are log-normal, median 220 tokens, a tenth above 620, none above 1,900: most samples are short, some are long,
and packs of 2048 tokens still take every one. Words of one token each in common vocabularies, so that lengths come out
nearly as asked.
"""

from __future__ import annotations

import random
from pathlib import Path

from slipway.data.rows import write_rows

MEDIAN_LOG, SPREAD_LOG, LONGEST = 5.4, 0.8, 1900
WORDS = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "was",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "at",
    "be",
    "this",
)


def write_synthetic(file: Path, tokens: int, seed: int = 0, longest: int = LONGEST) -> None:
    """Write chat rows of about `tokens` tokens together to `file`; no document is longer than `longest` tokens. The
    same arguments give the same bytes."""
    source, rows, total = random.Random(seed), [], 0  # noqa: S311 (text, no secret)
    while total < tokens:
        length = max(24, min(longest, int(source.lognormvariate(MEDIAN_LOG, SPREAD_LOG))))
        asked, answered = (" ".join(source.choices(WORDS, k=max(4, length // 2 - 10))) for _ in range(2))
        rows.append({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]})
        total += length
    write_rows(file, rows)
