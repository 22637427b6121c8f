"""Metrics of free text: how much of the reference answer is in the answer, from 0 to 1.

    token_f1   2 common / (words of the answer + words of the reference), common counted with multiplicity; words are
               lower-case runs of letters, marks and digits, characters one by one in Chinese, Japanese, Thai and their
               like (Rajpurkar et al. (2016), EMNLP, 2383-2392, without its English articles)
    chrf       F-score with beta 2 of character 1- to 6-grams (Popović (2015), WMT, 392-395), by sacrebleu
    rouge_l    F1 of the longest common subsequence of the same words (Lin (2004), 74-81), by rapidfuzz

All three are means over items: a corpus-level chrF, which adds up n-grams first, differs a little.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache
from typing import Any

from slipway.evaluation.metric import Metric
from slipway.evaluation.scorer import Example, Scorer


def token_f1() -> Scorer:
    """`token_f1`: overlap of words."""
    return Scorer(Metric("token_f1", "token F1", "real"), _token_f1)


def rouge_l() -> Scorer:
    """`rouge_l`: overlap of words in their order."""
    from rapidfuzz.distance import LCSseq

    def score(example: Example) -> float:
        answer, expected = words(example.answer), words(example.expected)
        common = int(LCSseq.similarity(answer, expected))
        return 2 * common / (len(answer) + len(expected)) if common else float(answer == expected)

    return Scorer(Metric("rouge_l", "ROUGE-L", "real"), score)


def chrf() -> Scorer:
    """`chrf`: overlap of character n-grams."""
    from sacrebleu.metrics import CHRF

    metric = CHRF()

    def score(example: Example) -> float:
        answer, expected = _printable(example.answer), _printable(example.expected)
        if not answer.strip() or not expected.strip():
            return float(answer.strip() == expected.strip())
        return float(metric.sentence_score(answer, [expected]).score) / 100

    return Scorer(Metric("chrf", "chrF", "real"), score)


def words(text: str) -> list[str]:
    """The words of a text as the docstring says."""
    return list(_word_pattern().findall(unicodedata.normalize("NFC", text).casefold()))


@cache
def _word_pattern() -> Any:
    import regex  # scripts and marks, which the standard library does not know

    unspaced = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    return regex.compile(rf"(?V1)[{unspaced}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{unspaced}]]+")


def _token_f1(example: Example) -> float:
    answer, expected = words(example.answer), words(example.expected)
    common = sum((Counter(answer) & Counter(expected)).values())
    return 2 * common / (len(answer) + len(expected)) if common else float(answer == expected)


def _printable(text: str) -> str:
    """Composed, and without half surrogate pairs, which the library may not encode."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "replace").decode()
