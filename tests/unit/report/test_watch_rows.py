"""A look as rows, figures and sentences."""

from __future__ import annotations

import pytest

from slipway.report.watch_rows import COLUMNS, next_step, sentence, watch_figures, watch_rows
from slipway.watch.checks import Inputs
from tests.support.looks import look_document

OTHERS = Inputs(["turn on lamp"] * 40, ["wie warm ist es morgen frueh in Ulm"] * 40)


def test_a_row_a_check() -> None:
    rows = {row["check"]: row for row in watch_rows(look_document(30))}
    quality = rows["json_exact"]
    assert tuple(quality) == COLUMNS
    assert (quality[""], quality["then"], quality["now"], quality["value"], quality["margin"], quality["n"]) == (
        "drift", "100.0%", "50.0%", "-50.0 points", "-2.0 points", "60"
    )  # fmt: skip
    assert quality["bound"].startswith("-") and quality["p / level"].startswith("1e-05 / ")
    assert (rows["answers longer"]["value"], rows["answers longer"]["then"]) == ("1.00x", "9.0 tokens")
    assert (rows["unanswered"]["value"], rows["unanswered"]["margin"]) == ("0.0%", "2.0%")
    assert (rows["input lengths"][""], rows["input lengths"]["why"]) == ("cannot tell", "capture is off")


def test_the_sentence_names_value_bound_and_margin_and_what_to_do() -> None:
    document = look_document(30)
    assert sentence(document).startswith("0001-3fa9c1d2 at local drifted: json_exact -50.0 points, bound -")
    assert next_step(document).startswith("`slipway rollback local`")
    inputs = look_document(inputs=OTHERS)
    assert "input lengths (p = 1e-05)" in sentence(inputs)
    assert "capture show" in next_step(inputs)


def test_nothing_wrong_and_nothing_to_be_said() -> None:
    good, few = look_document(), look_document(rows=3)
    assert sentence(good).startswith("0001-3fa9c1d2 at local: no bound under its margin; nothing can be said of input")
    assert next_step(good) == ""
    assert few["outcome"] == "cannot_tell"
    assert sentence(few).startswith("0001-3fa9c1d2 at local: nothing can be said of json_exact")


def test_figures_are_numbers_of_what_was_measured() -> None:
    figures = watch_figures(look_document(30))
    assert (figures["watch.alarms"], figures["watch.json_exact"]) == (1.0, pytest.approx(-0.5))
    assert "watch.input_lengths" not in figures
