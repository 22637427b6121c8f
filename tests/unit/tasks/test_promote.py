from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from slipway.config.canary import CanaryConfig
from tasks.promote import canary_s


@pytest.mark.parametrize(
    ("canary", "seconds"),
    [
        ({}, 0),
        ({"way": "mirror", "for_s": 7200}, 7200),
        ({"way": "weight", "for_s": 60}, 60),
        ({"way": "replay", "for_s": 60, "prompts": 2, "answer_s": 5}, 70),
    ],
)
def test_a_canary_adds_its_time_to_the_limit_of_the_task(canary: dict[str, Any], seconds: float) -> None:
    run: Any = SimpleNamespace(config=SimpleNamespace(deploy=SimpleNamespace(canary=CanaryConfig(**canary))))
    assert canary_s(run) == seconds
