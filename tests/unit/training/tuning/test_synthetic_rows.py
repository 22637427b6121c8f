"""Synthetic chat rows: their lengths, and that the same arguments give the same bytes."""

import json
import statistics

from slipway.data.rows import read_rows
from slipway.training.tuning.synthetic_rows import LONGEST, write_synthetic


def words(row):
    return sum(len(m["content"].split()) for m in row["messages"])


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_synthetic(tmp_path / name, 20_000, seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_lengths_are_like_those_of_instruction_data(tmp_path):
    write_synthetic(tmp_path / "rows.jsonl", 400_000)
    lengths = sorted(words(json.loads(line)) for line in (tmp_path / "rows.jsonl").read_text().splitlines())
    assert 170 < statistics.median(lengths) < 250, "median 220 tokens, 20 of them the template's"
    assert 480 < lengths[len(lengths) * 9 // 10] < 720
    assert 350_000 < sum(lengths) + 20 * len(lengths) < 450_000
    assert lengths[-1] <= LONGEST


def test_no_row_is_longer_than_asked_and_rows_are_chat_rows(tmp_path):
    write_synthetic(tmp_path / "rows.jsonl", 50_000, longest=100)
    rows = list(read_rows(tmp_path / "rows.jsonl"))
    assert max(words(row) for row in rows) <= 100
    assert all([m["role"] for m in row["messages"]] == ["user", "assistant"] for row in rows)
