"""The dataset's lengths and numbers against what the run does with them."""

from __future__ import annotations

from slipway.config.load import load_config
from slipway.ops.preflight.data_checks import NOT_THERE, data_checks

MARGIN = "gate.non_inferiority=[{against: merged, metric: json_exact, margin: 0.02}]"
SUMMARY = {"tokens_max": 700, "test_rows": 230, "task": ["json", "every answer is"], "label_key": None}


def rows(summary, *overrides):
    config = load_config(overrides=["train.pack_length=512", "engine.context=1024", *overrides])
    return list(data_checks(config, summary))


def test_before_the_data_is_prepared_nothing_is_known() -> None:
    assert [(row.status, row.finding) for row in rows(None)] == [("ok", NOT_THERE)] * 2


def test_rows_longer_than_a_sequence_name_the_setting() -> None:
    (lengths, *_) = rows(SUMMARY, MARGIN)
    assert lengths.status == "warn"
    assert lengths.finding == "at most 700 tokens; train.pack_length 512, engine.context 1,024"
    assert lengths.advice.startswith("raise train.pack_length to 700")
    assert rows(SUMMARY, MARGIN, "train.pack_length=1024")[0].status == "ok"


def test_margins_that_the_rows_cannot_settle_are_a_row_each() -> None:
    (_, test_rows) = rows(SUMMARY, MARGIN)
    assert test_rows.status == "warn" and "230 test rows are few for a margin of 2 points" in test_rows.finding
    assert "data.test_fraction" in test_rows.advice
    assert rows(SUMMARY | {"test_rows": 20_000}, MARGIN)[1].status == "ok"
