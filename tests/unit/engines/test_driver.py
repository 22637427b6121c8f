"""The plan that a bundle carries: written, read back, and closed to what nobody declared."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.engines.driver import CacheSpec, Limits, ServePlan

PLAN = ServePlan(
    kind="vllm",
    target="dgx-h100",
    argv=["vllm", "serve", "{model}", "--port", "{port}"],
    caches=[CacheSpec(name="triton", path="triton", variable="TRITON_CACHE_DIR")],
    limits=Limits(context=4096, slots=8),
)


def test_a_plan_is_the_same_after_a_file() -> None:
    assert ServePlan.model_validate_json(PLAN.model_dump_json()) == PLAN


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "sglang"},
        {"flags": []},
        {"limits": {"context": 0, "slots": 1}},
        {"limits": {"context": 1, "slots": 1, "users": 1}},
        {"start_s": 0},
    ],
)
def test_what_a_plan_does_not_know_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ServePlan.model_validate({**PLAN.model_dump(), **change})
