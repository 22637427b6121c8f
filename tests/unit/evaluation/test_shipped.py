"""Metrics by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.evaluate import EvaluateConfig, JudgeConfig
from slipway.config.gate import GateConfig
from slipway.errors import ConfigError
from slipway.evaluation.shipped import SHIPPED, Settings, check_gate, scorers
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


@pytest.mark.parametrize(
    ("gate", "evaluate", "words"),
    [
        ({"floors": {"exact_match": 0.5}}, {}, r"gate\.floors\.exact_match: no metric 'exact_match'.*primary, exact"),
        ({"floors": {"chrff": 0.5}}, {}, "did you mean chrf"),
        ({"floors": {"chrf": 0.5}}, {"metrics": ["exact"]}, "one of primary, exact, log_likelihood"),
        (
            {"non_inferiority": [{"against": "base", "metric": "bleu", "margin": 0.1}]},
            {},
            r"gate\.non_inferiority\.0\.metric: no metric 'bleu'",
        ),
    ],
)
def test_a_gate_on_what_is_not_measured_is_refused_before_any_work(gate: Any, evaluate: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_gate(GateConfig(**gate), EvaluateConfig(**evaluate))


def test_a_gate_may_name_what_is_asked_for_streamed_or_primary() -> None:
    floors = {"rouge_l": 0.1, "primary": 0.1, "log_likelihood": -3.0, "kl_from_merge": 0.1}
    check_gate(GateConfig(floors=floors), EvaluateConfig(metrics=["rouge_l"]))
