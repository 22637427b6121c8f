"""The evaluate section: what would measure nothing is refused; the label key is the data section's."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.evaluate import EvaluateConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key, refusal


def test_the_label_key_is_no_key_of_this_section():
    with pytest.raises(ValidationError, match="label_key"):
        EvaluateConfig(label_key="intent")


BOUNDS: list[Bound] = [
    ("task", "sums", "number"),
    ("metrics", [], ["chrf"]),
    ("metrics", [""], ["chrf"]),
    ("absolute_tolerance", -1, 0),
    ("relative_tolerance", -1, 0),
    ("max_items", 0, 1),
    ("max_new_tokens", 0, 1),
    ("max_new_tokens", "most", "auto"),
    ("concurrency", [], [1]),
    ("concurrency", [1, 0], [1]),
    ("speed_requests", 3, 4),
    ("probe_items", -1, 0),
    ("probe_tokens", 0, 1),
    ("timeout_s", 0, 0.1),
    ("timeout_s", float("nan"), 0.1),
    ("reference", "guessed", "both"),
    ("reference_memory_gb", 0, 0.1),
    ("confidence", 0.5, 0.51),
    ("confidence", 1, 0.99),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_by_its_key_and_holds_inside(bound):
    assert_bound("evaluate", bound)


def test_every_bound_of_the_section_is_tried():
    assert_every_bound_is_listed(EvaluateConfig, BOUNDS)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("max_item", "max_items"),
        ("concurency", "concurrency"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(key, near):
    assert_near_key("evaluate", key, near)


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        ({"url": "http://user:secret@host/v1"}, "without credentials"),
        ({"url": "host/v1"}, "starts with http"),
        ({"url": "http://ho st/v1"}, "host name"),
        ({"model": ""}, "model"),
        ({"key_variable": "sk-123"}, "key_variable"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"modle": "x"}, "did you mean model"),
    ],
    ids=str,
)
def test_a_judge_is_a_url_a_model_and_the_name_of_a_variable(judge, words):
    sound = {"url": "https://host:8000/v1", "model": "m", "key_variable": "JUDGE_KEY"}
    assert EvaluateConfig(judge=sound).judge.model == "m"
    assert words in refusal("evaluate", "judge", {**sound, **judge})
    assert "secret" not in refusal("evaluate", "judge", {**sound, "url": "http://user:secret@host/v1"})


@pytest.mark.parametrize("pattern", ["(", "*", "a{2,1}"])
def test_a_pattern_is_a_regular_expression(pattern):
    assert "regular expression" in refusal("evaluate", "pattern", pattern)
    assert EvaluateConfig(pattern=r"#### (\d+)").pattern == r"#### (\d+)"
