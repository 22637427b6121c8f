"""The page of a look, with its plot over the looks so far."""

from __future__ import annotations

from slipway.report.watch_report import watch_figure, watch_report
from slipway.watch.checks import Inputs
from tests.support.looks import look_document


def test_the_page_has_sentence_table_plot_and_what_was_left_out() -> None:
    report = watch_report([look_document(), look_document(30)])
    assert report.linked.startswith("# 0001-3fa9c1d2 at local drifted")
    assert "![looks](watch.png)" in report.linked and "data:image/png;base64," in report.inline
    assert "| json_exact | drift | 100.0% | 50.0% |" in report.linked
    assert "0 of 4 captured prompts compared; left out 4 no chat." in report.linked
    assert "Not judged: nll, no answers say it." in report.linked and report.linked.rstrip().endswith("a note")
    assert report.plot.startswith(b"\x89PNG")


def test_the_plot_has_every_look_its_margin_and_a_ring_at_an_alarm() -> None:
    looks = [look_document(), look_document(30), look_document(release="0002-aa9c1d20")]
    quality, verbosity, inputs = watch_figure(looks).axes
    (line,) = [line for line in quality.lines if line.get_label() == "json_exact"]
    assert list(line.get_ydata()) == [0.0, -50.0, 0.0]
    assert [ring.get_xdata()[0] for ring in quality.lines if ring.get_markersize() == 11] == [1]
    assert [x for line in quality.lines if line.get_linestyle() == ":" for x in line.get_xdata()] == [1.5, 1.5]
    assert {y for line in verbosity.lines if line.get_linestyle() == "--" for y in line.get_ydata()} == {0.8, 1.25}
    assert inputs.texts[0].get_text() == "no captured prompts compared"


def test_captured_requests_are_drawn_by_their_p_over_its_level() -> None:
    other = Inputs(["turn on lamp"] * 40, ["wie warm ist es morgen frueh in Ulm"] * 40)
    inputs = watch_figure([look_document(inputs=other)]).axes[2]
    assert {line.get_label() for line in inputs.lines} >= {"input lengths", "input n-grams"}
    assert all(line.get_ydata()[0] == 0.1 for line in inputs.lines if line.get_label() == "input lengths")
