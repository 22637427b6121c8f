"""The gate section: metrics that are measured, shares of items, margins that leave room."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.gate import GateConfig, NonInferiority


def test_a_floor_on_what_is_not_measured_is_refused_before_any_work():
    with pytest.raises(ValidationError, match="'exact_match' or 'intent_accuracy'"):
        GateConfig(floors={"bleu": 0.5})


@pytest.mark.parametrize("floor", [-0.1, 1.1, 80, "high"])
def test_a_floor_is_a_share(floor):
    with pytest.raises(ValidationError, match="floors"):
        GateConfig(floors={"exact_match": floor})


@pytest.mark.parametrize("keys", [{"margin": 0}, {"margin": 1}, {"against": "base"}, {"metric": "bleu"}], ids=str)
def test_a_paired_test_names_reference_metric_and_margin(keys):
    sound = {"against": "champion", "metric": "exact_match", "margin": 0.05}
    assert NonInferiority(**sound).margin == 0.05
    with pytest.raises(ValidationError, match=next(iter(keys))):
        NonInferiority(**{**sound, **keys})


def test_floors_stand_alone_until_paired_tests_are_configured():
    assert GateConfig().non_inferiority == []
    assert set(GateConfig().floors) == {"exact_match", "intent_accuracy"}
