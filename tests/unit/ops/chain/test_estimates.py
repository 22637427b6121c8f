"""What a stage is said to take, and how wrong that was."""

from __future__ import annotations

import pytest

from slipway.ops.chain.estimates import WHOLE_RUN, errors, estimate
from slipway.pipeline.measurements import Figures, Measurement, this_machine
from slipway.pipeline.stage import Work


def row(amount: float, seconds: float, *, predicted: float = 0, group: str = "g", machine: str = "") -> Measurement:
    forecast = Figures(seconds=predicted, peak_bytes=predicted * 10, disk_bytes=predicted) if predicted else None
    return Measurement(
        title="train",
        key="k",
        group=group,
        amount=amount,
        machine=machine or this_machine(),
        at="2026-11-29T00:00:00Z",
        measured=Figures(seconds=seconds, peak_bytes=seconds * 10, disk_bytes=seconds),
        predicted=forecast,
    )


def test_time_is_the_median_rate_times_the_amount() -> None:
    made = estimate(Work("g", 30, "parameters x tokens"), [row(10, 10), row(20, 22), row(10, 90)])
    assert made
    assert made.figures.seconds == pytest.approx(33) and made.runs == 3
    assert made.bound is None


def test_memory_is_of_runs_of_about_this_size() -> None:
    made = estimate(Work("g", 30, "parameters x tokens"), [row(1, 1), row(20, 22)])
    assert made and made.figures.peak_bytes == 220
    far = estimate(Work("g", 1000, "parameters x tokens"), [row(1, 1), row(20, 22)])
    assert far and far.figures.peak_bytes == 0, "no figure: nothing like it ran"


def test_disk_grows_with_parameters_and_not_with_tokens() -> None:
    rows = [row(10, 10)]
    weights, tokens = (estimate(Work("g", 40, unit), rows) for unit in ("parameters", "parameters x tokens"))
    assert weights and tokens
    assert (weights.figures.disk_bytes, tokens.figures.disk_bytes) == (40, 10)


@pytest.mark.parametrize(
    ("work", "rows"),
    [
        (None, [row(1, 1)]),
        (Work("g", 0, "parameters"), [row(1, 1)]),
        (Work("g", 1, "parameters"), []),
        (Work("g", 1, "parameters"), [row(1, 1, group="other")]),
        (Work("g", 1, "parameters"), [row(1, 1, machine="another, 4 CPUs")]),
    ],
)
def test_nothing_is_guessed(work: Work | None, rows: list[Measurement]) -> None:
    assert estimate(work, rows) is None


def test_a_bound_needs_nineteen_predictions_and_covers_the_worst_of_them() -> None:
    rows = [row(1, 1 + n / 100, predicted=1) for n in range(19)]
    below = estimate(Work("g", 1, "parameters"), rows[:18])
    made = estimate(Work("g", 1, "parameters"), rows)
    assert below and below.bound is None
    assert made and made.bound
    assert made.bound.seconds == pytest.approx(made.figures.seconds * 1.18), "ceil(.95 x 20) = 19th of 19 residuals"


def test_runs_that_were_faster_than_said_do_not_pull_the_bound_below_the_figure() -> None:
    made = estimate(Work("g", 1, "parameters"), [row(1, 1, predicted=2)] * 19)
    assert made and made.bound and made.bound.seconds == made.figures.seconds


def test_errors_are_of_predictions_made_beforehand() -> None:
    rows = [row(1, 10), row(1, 10, predicted=11), row(1, 10, predicted=8), row(1, 10, predicted=10)]
    by_quantity = {one.quantity: one for one in errors(rows)}
    seconds = by_quantity["seconds"]
    assert (seconds.runs, seconds.p50, seconds.p95) == (3, pytest.approx(0.1), pytest.approx(0.2))
    assert errors([row(1, 10)]) == []


def test_a_whole_run_has_its_error_after_one_run_too() -> None:
    """A stage without a prediction is counted and not summed; peaks of memory do not add up."""
    made = [row(1, 10, predicted=8), row(1, 30, predicted=30).model_copy(update={"by": "formula"}), row(1, 5)]
    rows = [one.model_copy(update={"run": "a"}) for one in made]
    whole = {one.quantity: one for one in errors(rows) if one.title == WHOLE_RUN}
    assert set(whole) == {"seconds", "disk_bytes"}
    seconds = whole["seconds"]
    assert (seconds.predicted, seconds.measured, seconds.runs, seconds.by) == (38, 40, 1, "both")
    assert (seconds.p50, seconds.stages, seconds.bound) == (pytest.approx(0.05), (2, 3), None)
    assert [one for one in errors([row(1, 10, predicted=8)]) if one.title == WHOLE_RUN] == [], (
        "runs were not told apart"
    )


def test_errors_stand_beside_the_latest_pair_and_the_bound_of_nineteen() -> None:
    rows = [row(1, 1 + n / 100, predicted=1) for n in range(19)]
    last = errors(rows)[0]
    assert (last.predicted, last.measured, last.bound) == (1, 1.18, pytest.approx(0.18))
    assert errors(rows[:18])[0].bound is None
