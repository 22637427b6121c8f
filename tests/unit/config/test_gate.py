"""The gate section: metrics that are measured, shares of items, margins that leave room."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.gate import GateConfig, NonInferiority
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key, refusal


@pytest.mark.parametrize("floor", [float("nan"), float("inf"), "high", None])
def test_a_floor_is_a_number(floor):
    with pytest.raises(ValidationError, match="floors"):
        GateConfig(floors={"chrf": floor})
    assert GateConfig(floors={"answer_loglik": -1.5}).floors == {"answer_loglik": -1.5}


@pytest.mark.parametrize(
    "keys", [{"margin": 0}, {"margin": float("inf")}, {"against": "candidate"}, {"metric": ""}], ids=str
)
def test_a_paired_test_names_reference_metric_and_margin(keys):
    sound = {"against": "champion", "metric": "json_exact", "margin": 0.05}
    assert NonInferiority(**sound).margin == 0.05
    with pytest.raises(ValidationError, match=next(iter(keys))):
        NonInferiority(**{**sound, **keys})


def test_floors_stand_alone_until_paired_tests_are_configured():
    assert GateConfig().non_inferiority == []
    assert GateConfig().floors == {}


BOUNDS: list[Bound] = [
    ("min_items", 0, 1),
    ("max_verbosity", 1, 1.01),
    ("max_cut_off", -0.01, 0),
    ("max_cut_off", 1.01, 1),
    ("max_repetition", -0.01, 0),
    ("max_repetition", 1.01, 1),
    ("max_warm_start_s", 0, 0.5),
    ("max_boot_spread", 0, 0.1),
    ("confidence", 0.5, 0.51),
    ("confidence", 1, 0.99),
    ("max_bits_per_parameter", 0, 0.1),
    ("trials", 0, 1),
    ("tie", "lose", "promote"),
    ("min_smaller", 0, 0.01),
    ("min_smaller", 1, 0.99),
    ("min_faster", 0, 0.01),
    ("min_speed_ratio", 0, 0.1),
    ("min_speed_ratio", "fast", "auto"),
    ("min_of_roofline", 0, 0.1),
    ("min_of_roofline", 1.01, 1),
    ("min_of_roofline", "high", "auto"),
    ("users", 0, 1),
    ("users_context", 0, 1),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_by_its_key_and_holds_inside(bound):
    assert_bound("gate", bound)


def test_every_bound_of_the_section_is_tried():
    assert_every_bound_is_listed(GateConfig, BOUNDS)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("floor", "floors"),
        ("non_inferiorty", "non_inferiority"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(key, near):
    assert_near_key("gate", key, near)


def test_an_unknown_key_of_a_paired_test_is_refused_with_the_near_one():
    rule = {"against": "champion", "metric": "json_exact", "margin": 0.05, "margins": 1}
    message = refusal("gate", "non_inferiority", [rule])
    assert message.startswith("config key gate.non_inferiority.0.margins: unknown"), message
    assert message.endswith("expected one of against, margin, metric. Next: did you mean margin?"), message
