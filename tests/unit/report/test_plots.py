"""Plots: pictures with something on them, the same bytes each time, and ink that follows the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import matplotlib.image
import pytest
from matplotlib.figure import Figure

from slipway.report import plots
from tests.support.record import RULES, quality, speed

PAIRED = {**RULES[1], "outcome": "pass", "reason": "above"}
FAILED = {**RULES[1], "outcome": "fail", "low": None, "high": -0.1, "value": -0.2}

EFFECT = {"value": 0.85, "low": 0.2, "high": None}

MADE: dict[str, Callable[[], Figure]] = {
    "loss": lambda: plots.loss_curve([{"step": i, "loss": 3.0 / i} for i in range(1, 60)], 0.4),
    "quality": lambda: plots.quality_bars(
        {"candidate": quality(0.8, 0.9)}, {"json_exact": "exact JSON"}, {"json_exact": 0.5}
    ),
    "speed": lambda: plots.speed_lines({"candidate": speed(90)}),
    "effects": lambda: plots.effect_intervals({"won": dict.fromkeys(("exact JSON", "label accuracy"), EFFECT)}),
    "memory": lambda: plots.memory_lines({"candidate": [[0, 1e9], [1, 2e9]]}),
    "starts": lambda: plots.start_bars([("cold", {"process": 3, "compile": 9}), ("warm", {"process": 3})]),
}


@pytest.mark.parametrize("name", MADE)
def test_plots_are_small_pictures_with_something_on_them(name: str) -> None:
    data = plots.png(MADE[name]())
    assert len(data) < 60_000
    pixels = matplotlib.image.imread(io.BytesIO(data), format="png")
    assert pixels.shape[0] > 150
    blue = abs(pixels[..., :3] - [0x2F / 255, 0x6F / 255, 0xB0 / 255]).max(axis=-1) < 0.01
    assert blue.sum() > 100


@pytest.mark.parametrize("name", MADE)
def test_a_drawing_takes_the_ink_of_its_page_and_is_the_same_each_time(name: str) -> None:
    drawn = plots.svg(MADE[name]())
    assert drawn.startswith("<svg") and drawn.rstrip().endswith("</svg>")
    assert plots.INK not in drawn and "currentColor" in drawn
    inks = re.findall(r"<text style=\"[^\"]*fill: ([^;\"]+)", drawn)
    assert inks and set(inks) == {"currentColor"}
    assert drawn == plots.svg(MADE[name]())


def test_a_percentile_that_was_not_printed_has_no_whisker() -> None:
    runs = speed(90)
    del runs[0]["ttft_ms"]["p95"]
    runs[1]["ttft_ms"]["p95"] = None
    assert plots.png(plots.speed_lines({"candidate": runs}))


def test_paired_rules_are_drawn_by_their_outcome_with_their_margin() -> None:
    figure = plots.rule_intervals([PAIRED, FAILED, {**RULES[1], "value": None}])
    (axes,) = figure.axes
    colors = [line.get_color() for line in axes.lines]
    assert (colors.count(plots.GREEN), colors.count(plots.ORANGE), colors.count(plots.INK)) == (2, 2, 3)
    margins = [line.get_xdata() for line in axes.lines if line.get_color() == plots.INK]
    assert [float(x) for (x,) in margins] == [-8.0, -8.0, -8.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["json_exact\nagainst merged"] * 3
    assert plots.png(figure) and plots.svg(figure).startswith("<svg")


def test_effects_are_drawn_in_points_and_one_without_a_value_is_left_out() -> None:
    none = {"value": None, "low": None, "high": None}
    figure = plots.effect_intervals(
        {"won": {"a": EFFECT, "b": none}, "lost": {"a": {**EFFECT, "value": -0.5, "low": -1}}}
    )
    ends = [
        [float(x) for x in line.get_xdata()]
        for axes in figure.axes
        for line in axes.lines
        if len(line.get_xdata()) == 2
    ]
    assert [20.0, 85.0] in ends
    assert [-100.0, -50.0] in ends
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["+85.0", "-50.0"]


def test_whiskers_of_two_models_do_not_lie_on_each_other() -> None:
    figure = plots.speed_lines({"merged": speed(90), "candidate": speed(90)})
    first, second = (container.lines[0].get_xdata()[0] for container in figure.axes[0].containers)
    assert first < 1 < second
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "4"]
