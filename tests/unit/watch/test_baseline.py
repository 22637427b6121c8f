"""From a release to its evaluation, and what cannot be one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import SlipwayError, StateError
from slipway.watch.baseline import baseline_of
from tests.support.watched import answer, rows_as_served


def test_rows_and_answers_of_the_evaluation(serve: Any) -> None:
    config, release = serve(rows_as_served(6))
    baseline = baseline_of(release, config)
    assert [item["label"] for item in baseline.items] == [item["answer"] for item in baseline.items]
    assert [row["id"] for row in baseline.rows] == [item["id"] for item in baseline.items]
    assert [scorer.metric.name for scorer in baseline.measures] == ["exact"]
    assert baseline.class_of is not None and baseline.class_of(answer("on")) == "on"


def test_what_is_not_judged_is_named_with_its_reason(serve: Any) -> None:
    config, release = serve(rows_as_served(3), metrics=("exact", "label_macro_f1", "nll"))
    assert baseline_of(release, config).left_out == {
        "label_macro_f1": "it has no value of one item", "nll": "no answers say it"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("without", "match"), [("answer", "generated no answers"), ("tokens", "items.jsonl: tokens"), ("metrics", "before")]
)
def test_an_evaluation_of_another_shape_is_refused_by_name(serve: Any, without: str, match: str) -> None:
    config, release = serve(rows_as_served(3), without=without)
    with pytest.raises(SlipwayError, match=match):
        baseline_of(release, config)


@pytest.mark.parametrize("what", ["verdict", "evaluation", "dataset", "items.jsonl", "test.jsonl", "metrics.json"])
def test_an_evaluation_that_is_gone_or_damaged_says_where_it_may_be(serve: Any, what: str) -> None:
    config, release = serve(rows_as_served(3))
    root = Path(config.store.root)
    if "." in what:
        (file,) = [file for file in root.glob(f"*/*/{what}") if file.parent.parent.name != "engine"]
        file.write_text("no json\n")
    else:
        shutil.rmtree(root / what)
    with pytest.raises(StateError, match=r"in the store|intact bytes") as raised:
        baseline_of(release, config)
    assert "store.root" in raised.value.next_step
