"""The evaluate section: what would measure nothing is refused; the label key is the data section's."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.evaluate import EvaluateConfig


@pytest.mark.parametrize(
    "keys",
    [
        {"concurrency": []},
        {"concurrency": [0]},
        {"max_items": 0},
        {"speed_requests": 3},
        {"confidence": 1.0},
        {"confidence": 0.5},
        {"timeout_s": 0},
        {"max_new_tokens": 0},
    ],
    ids=str,
)
def test_what_would_measure_nothing_is_refused(keys):
    with pytest.raises(ValidationError, match=next(iter(keys))):
        EvaluateConfig(**keys)


def test_the_label_key_is_no_key_of_this_section():
    with pytest.raises(ValidationError, match="label_key"):
        EvaluateConfig(label_key="intent")
