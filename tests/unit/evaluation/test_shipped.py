"""Metrics by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.evaluate import EvaluateConfig, JudgeConfig
from slipway.errors import ConfigError
from slipway.evaluation.shipped import SHIPPED, Settings, scorers
from slipway.evaluation.task import KEYED, METRICS

JUDGE = JudgeConfig(url="http://127.0.0.1:9/v1", model="big")
SETTINGS = Settings(EvaluateConfig(pattern="x", judge=JUDGE), "intent")


def test_every_metric_declares_the_name_it_is_asked_by() -> None:
    assert [s.metric.name for s in scorers(list(SHIPPED), SETTINGS)] == list(SHIPPED)
    assert len(scorers(["json_exact", "json_exact"], SETTINGS)) == 1


def test_an_unknown_metric_is_refused_with_the_near_one() -> None:
    with pytest.raises(ConfigError, match="did you mean json_exact"):
        scorers(["json_exakt"], SETTINGS)


@pytest.mark.parametrize(("name", "key"), [("regex", "evaluate.pattern"), ("judge", "evaluate.judge")])
def test_a_metric_without_its_settings_names_the_key(name: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}: null"):
        scorers([name], Settings(EvaluateConfig(), None))


def test_the_tasks_metrics_exist() -> None:
    for names in (*METRICS.values(), KEYED):
        scorers(names, SETTINGS)


def test_the_documentation_has_every_metric_and_every_task() -> None:
    rows = [line for line in Path("docs/metrics.md").read_text(encoding="utf-8").split("\n") if line.startswith("| `")]
    first = [row.split("`")[1] for row in rows]
    assert first == [*("tools", "json", "label", "number", "text"), *SHIPPED]
    assert set(METRICS) == set(first[:5])
