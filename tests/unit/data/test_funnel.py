"""The funnel as rows of a table and as a sentence."""

from __future__ import annotations

from slipway.data.funnel import SplitShare, Step, example, funnel_rows, lines_of_text, sentence

STEPS = [
    Step("read", 1234, 1234, "data.raw").to_json(),
    Step("duplicate", 0, 1234, "").to_json(),
    Step("near duplicate", 34, 1200, "data.near_duplicate", ["line 7: a (line 3: b)", "line 9: c"]).to_json(),
]
SHARES = [
    SplitShare("train", 1000, 0.8, 0.8333, "", 5000).to_json(),
    SplitShare("test", 200, 0.15, 0.1667, "the reason").to_json(),
]


def test_every_row_of_the_table_has_the_same_columns() -> None:
    rows = funnel_rows(STEPS, SHARES)
    assert {tuple(row) for row in rows} == {("", "rows", "left", "changed by", "note")}
    assert rows[2]["note"] == "line 7: a (line 3: b)"
    assert rows[2]["changed by"] == "data.near_duplicate"
    assert rows[3]["note"] == "5,000 tokens, asked 80%, got 83.3%"
    assert rows[4]["note"] == "asked 15%, got 16.7%: the reason"


def test_the_sentence_leaves_out_what_took_nothing() -> None:
    expected = "1,234 read, 34 near duplicate (data.near_duplicate), train 1,000, test 200"
    assert sentence(STEPS, SHARES) == expected


def test_examples_are_of_bounded_length_and_one_line() -> None:
    assert example(3, "a\n b") == "line 3: a b"
    assert example(3, "a", (1, "b")) == "line 3: a (line 1: b)"
    assert len(example(1, "x" * 10_000, (2, "y" * 10_000))) < 500


def test_lines_of_text_align_counts() -> None:
    lines = lines_of_text(funnel_rows(STEPS, SHARES))
    assert lines[0] == "      1,234 read (data.raw)"
    assert lines[2] == "         34 near duplicate (data.near_duplicate): line 7: a (line 3: b)"
    assert lines[4] == "        200 test (data.test_fraction): asked 15%, got 16.7%: the reason"
