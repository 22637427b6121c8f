"""Checks of a release in words: of every shape that a record has had."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.deployment.canary.check_words import agreement_words, check_pairs

AGREED = {"outcome": "agrees", "ratio": 0.8123, "ratio_limit": 3.0, "tokens": 640, "answers": 8}
WORDS = "agrees, off by 0.812 times what rounding does (limit 3), 640 tokens of 8 answers"


@pytest.mark.parametrize(
    ("checks", "rows"),
    [
        ({}, []),
        ({"probe": "text of an earlier version"}, []),
        ({"probe": {"rows": 8, "tokens": 640}}, ["8 asked, 640 tokens compared: as evaluated"]),
        ({"probe": {"refused": "none kept", "agreement": {"refused": "no weights"}}},
         ["none kept", "not checked, no weights"]),
        ({"probe": {"rows": 8, "tokens": 640, "agreement": AGREED}},
         ["8 asked, 640 tokens compared: as evaluated", WORDS]),
        ({"index": {"digest": "a" * 64, "probes": 32, "retrievers": ["bm25", "dense"]}},
         ["aaaaaaaaaaaa, 32 probes find what they found, by bm25 and dense"]),
        ({"probe": {"refused": "none kept"}, "index": {"digest": "a" * 64, "refused": "far away"}},
         ["none kept", "aaaaaaaaaaaa, probes not searched again: far away"]),
    ],
)  # fmt: skip
def test_what_was_asked_is_said_with_its_outcome(checks: dict[str, Any], rows: list[str]) -> None:
    assert [outcome for _, outcome in check_pairs(checks)] == rows


def test_a_verdict_is_its_figures_or_why_there_is_none() -> None:
    assert agreement_words(AGREED) == WORDS
    assert agreement_words({"refused": "no torch"}) == "not checked, no torch"
