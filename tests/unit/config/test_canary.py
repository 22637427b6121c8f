"""Section deploy.canary; its bounds are tried with those of `deploy`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from slipway.config.canary import CanaryConfig


def test_it_is_off_by_default_and_judged_by_nobody() -> None:
    assert (CanaryConfig().way, CanaryConfig().judge) == ("none", None)


def test_a_judge_is_an_endpoint_without_credentials() -> None:
    judge = {"url": "https://judge.example/v1", "model": "m"}
    config = CanaryConfig.model_validate({"way": "mirror", "judge": judge})
    assert config.judge is not None and config.judge.model == "m"
    with pytest.raises(ValidationError, match="without credentials"):
        CanaryConfig.model_validate({"judge": {**judge, "url": "https://me:secret@judge.example/v1"}})


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
    assert CanaryConfig(**canary).longest_s == seconds
