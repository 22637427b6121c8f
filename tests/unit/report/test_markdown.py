"""Tables of a run as Markdown, cell by cell."""

from pathlib import Path

from slipway.evaluation.metric import Metric
from slipway.report.markdown import (
    cell,
    columns,
    digest_table,
    effect_table,
    estimate,
    pairs,
    quality_table,
    rule_table,
    speed_cells,
    speed_table,
    table,
)
from tests.support.record import RULES, entry, quality, record


def cells(text: str) -> list[list[str]]:
    """Rows of a Markdown table without its header."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()[2:]]


def test_a_table_has_a_header_a_rule_and_a_line_for_each_row() -> None:
    assert table(("a", "b"), [(1, "x"), (2.5, "y")]) == "| a | b |\n|---|---|\n| 1 | x |\n| 2.5 | y |"
    assert table(("a",), []) == "None."


def test_a_cell_never_breaks_its_table() -> None:
    assert table(("a",), [("one | two\nthree",)]).splitlines()[-1] == "| one \\| two three |"


def test_nested_figures_are_flattened() -> None:
    assert cells(pairs({"a": {"b": 1, "c": {"d": 2.0}}, "e": "f"})) == [["a.b", "1"], ["a.c.d", "2"], ["e", "f"]]


def test_shares_are_percent_and_changes_are_signed_points() -> None:
    share = {"unit": "share", "value": 0.84, "low": 0.79, "high": 0.8912}
    assert estimate(share) == "84.0 % (79.0 to 89.1)"
    change = {"unit": "share", "value": -0.01, "low": -0.03, "high": 0.01}
    assert estimate(change, signed=True) == "-1.0 (-3.0 to +1.0)"


def test_other_units_are_named_and_what_is_unknown_left_out() -> None:
    loss = {"unit": "nats/token", "value": 1.23456, "low": 1.0, "high": 1.5}
    assert estimate(loss) == "1.235 nats/token (1 to 1.5)"
    assert estimate(loss, signed=True) == "+1.235 nats/token (+1 to +1.5)"
    assert estimate({**loss, "low": None, "high": None}) == "1.235 nats/token"
    assert estimate({**loss, "value": None}) == ""


def test_columns_are_every_metric_that_any_model_has() -> None:
    documents = [quality(0.1, 0.2), {"n": 1, "metrics": [entry(Metric("chrf", "chrF", "real"), 0.5)]}]
    assert columns(documents) == {"json_exact": "exact JSON", "label_accuracy": "label accuracy", "chrf": "chrF"}
    assert (cell(documents[0], "chrf"), cell(documents[1], "chrf")) == ("", "50.0 % (45.0 to 55.0)")


def test_every_served_model_has_a_row_of_quality(tmp_path: Path) -> None:
    rows = {row[0]: row[1:] for row in cells(quality_table(record(tmp_path)))}
    assert rows["fine-tuned, quantized (shipped)"] == ["200", "84.0 % (79.0 to 89.0)", "91.0 % (86.0 to 96.0)"]
    assert set(rows) == {"base", "fine-tuned, unquantized", "fine-tuned, quantized (shipped)"}


def test_only_models_that_were_timed_have_rows_of_speed(tmp_path: Path) -> None:
    rows = cells(speed_table(record(tmp_path)))
    assert [(row[0], row[1]) for row in rows] == [
        ("fine-tuned, unquantized", "1"),
        ("fine-tuned, unquantized", "4"),
        ("fine-tuned, quantized (shipped)", "1"),
        ("fine-tuned, quantized (shipped)", "4"),
    ]
    assert rows[2][2:] == ["100", "0", "40.0 / 55.0 / -", "9.5 / 14.0 / -", "78.0", "2.25"]
    assert speed_table(record(tmp_path / "untimed", timed=False)) == "None."


def test_a_percentile_of_too_few_requests_is_a_dash() -> None:
    latency = {"p50": 12.34}
    run = {"concurrency": 8, "requests": 40, "errors": 2, "ttft_ms": latency, "itl_ms": {}}
    rates = {"tokens_per_s": 100.0, "requests_per_s": 2.0}
    assert speed_cells({**run, **rates}) == ["8", "40", "2", "12.3 / - / -", "- / - / -", "100.0", "2.00"]


def test_effects_and_rules_are_the_verdicts(tmp_path: Path) -> None:
    run = record(tmp_path)
    assert cells(effect_table(run))[1] == ["lost to quantization", "+1.0 (-1.0 to +3.0)", "+1.0 (-1.0 to +3.0)"]
    run.judged["finetuning_gain"].clear()  # the base was not served
    assert [row[0] for row in cells(effect_table(run))] == ["lost to quantization"]
    assert [row[4] for row in cells(rule_table(run))] == [rule["outcome"] for rule in RULES]
    assert rule_table(record(tmp_path / "none", rules=[])) == "None."


def test_every_ancestor_is_named_with_its_digest(tmp_path: Path) -> None:
    run = record(tmp_path)
    rows = cells(digest_table(run))
    assert {row[3] for row in rows} == {f"`{a.digest}`" for a in run.ancestors} and len(rows) == len(run.ancestors)
    assert f"`{run.engine.digest}`" in {row[3] for row in rows}
