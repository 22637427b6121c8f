"""The card says what won, why, and every figure."""

from __future__ import annotations

from slipway.rag.choice_card import card, interval, reasons, table

DOCUMENT = {
    "outcome": "undecided",
    "winner": "a/bm25",
    "best": "b/dense",
    "tie": ["a/bm25", "b/dense"],
    "questions": {"choose": 20, "report": 19},
    "resampled_by": "question",
    "documents": 3,
    "confidence": 0.95,
    "margin": 0.03,
    "widest_half_width": 0.0912,
    "widest_in_tie": 0.05,
    "questions_needed": 1234,
    "arms": [
        {
            "arm": "a/bm25",
            "choose": 0.5,
            "choose_difference": {"value": 0.01, "low": -0.02, "high": 0.04},
            "apart": False,
            "in_tie": True,
            "report": {"value": 0.6, "low": 0.5, "high": 0.7},
            "report_difference": {"value": 0, "low": 0, "high": 0},
            "costs": {"chunks": 1200.0},
        }
    ],
    "metrics": {"a/bm25": {"hit@10": 0.7, "ndcg@10": 0.4, "p50_ms": 1.25}},
}


def test_a_row_holds_both_halves_and_the_cost() -> None:
    assert table(DOCUMENT).splitlines()[-1] == (
        "| a/bm25 | 0.500 | +0.010 (-0.020 to +0.040) | as good | 0.600 (0.500 to 0.700) | +0.000 (+0.000 to +0.000) "
        "| 0.700 | 0.400 | 1,200 | 1.2 |"
    )


def test_the_reasons_name_what_was_resampled_and_what_would_decide() -> None:
    text = reasons(DOCUMENT)
    assert "resampled by questions (3 documents)" in text
    assert "About 1,234 questions would decide." in text
    assert "Widest interval against the best: +-0.050 of these, +-0.091 of all." in text
    assert "would decide" not in reasons({**DOCUMENT, "questions_needed": None})


def test_the_card_begins_with_the_outcome() -> None:
    assert card(DOCUMENT).startswith("# Retrieval: a/bm25\n\nundecided: the questions cannot tell")
    assert interval({"value": 0.5, "low": 0.25, "high": 0.75}) == "0.500 (0.250 to 0.750)"
