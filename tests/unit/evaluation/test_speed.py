from __future__ import annotations

import math

import pytest

from slipway.engines.chat_client import Answer
from slipway.evaluation.speed import OUTPUT_TOKENS, percentile, summarize_runs


@pytest.mark.parametrize(("q", "want"), [(0, 1), (50, 2.5), (95, 3.85), (100, 4)])
def test_percentiles_are_linear_between_order_statistics(q: float, want: float) -> None:
    assert percentile([4, 1, 3, 2], q) == pytest.approx(want)


def test_percentiles_of_one_and_of_none() -> None:
    assert percentile([7], 95) == 7
    assert math.isnan(percentile([], 50))


def test_figures_have_units_of_milliseconds_and_seconds() -> None:
    answers = [
        Answer("a b c", "length", 5, 3, 0.010, (0.002, 0.004), 0.016, 0),
        Answer("d e", "length", 5, 2, 0.030, (0.006,), 0.036, 1),
    ]
    run = summarize_runs(2, answers, 0.5)
    assert run == {
        "concurrency": 2,
        "requests": 2,
        "output_tokens": OUTPUT_TOKENS,
        "ttft_ms": {"p50": 20.0, "p95": 29.0},
        "itl_ms": {"p50": 4.0, "p95": 5.8},
        "tokens_per_s": 10.0,
        "requests_per_s": 4.0,
        "retries": 1,
    }
