"""Latency distributions: drawn of what was recorded, at a concurrency that all have."""

from slipway.evaluation.speed import QUANTILES
from slipway.report.latency_plots import latency_distributions
from slipway.report.plots import svg


def run(callers, scale=1.0):
    values = [scale * (10 + q) for q in QUANTILES]
    return {"concurrency": callers, "ttft_quantiles_ms": values, "itl_quantiles_ms": values}


def test_every_model_is_drawn_at_the_most_callers_that_all_have():
    figure = latency_distributions({"merged": [run(1), run(4)], "candidate": [run(1, 0.5), run(8)]})
    ttft, itl = figure.axes
    assert ttft.get_title().endswith("1 caller") and len(itl.lines) == 2
    assert list(ttft.lines[1].get_xdata()) == [0.5 * (10 + q) for q in QUANTILES]
    assert b"<svg" in (svg(figure).encode() if isinstance(svg(figure), str) else svg(figure))


def test_runs_of_earlier_versions_have_none():
    assert latency_distributions({"merged": [{"concurrency": 1, "ttft_ms": {"p50": 1.0}}]}) is None
    assert latency_distributions({}) is None
    assert latency_distributions({"a": [run(1)], "b": [run(2)]}) is None
