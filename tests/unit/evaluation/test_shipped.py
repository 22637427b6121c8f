"""Metrics by name."""

from __future__ import annotations

import pytest

from slipway.config.evaluate import EvaluateConfig
from slipway.errors import ConfigError
from slipway.evaluation.shipped import SHIPPED, Settings, scorers

SETTINGS = Settings(EvaluateConfig(), "intent")


def test_every_metric_declares_the_name_it_is_asked_by() -> None:
    assert [s.metric.name for s in scorers(list(SHIPPED), SETTINGS)] == list(SHIPPED)
    assert len(scorers(["json_exact", "json_exact"], SETTINGS)) == 1


def test_an_unknown_metric_is_refused_with_the_near_one() -> None:
    with pytest.raises(ConfigError, match="did you mean json_exact"):
        scorers(["json_exakt"], SETTINGS)
