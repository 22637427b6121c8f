"""When the second kernel is asked, and what the error says where it cannot be; the lab asks the real llama-server
(`tests/lab/engines/test_kernel_agreement.py`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.config.engine import AgreementConfig
from slipway.config.target import TargetConfig
from slipway.engines.driver import Limits, ServePlan
from slipway.engines.serving import Service
from slipway.errors import EngineError
from slipway.evaluation.agreement_check import Agreeing
from slipway.evaluation.second_opinion import verdict_with_second


class Judged(Agreeing):
    """A check whose outcome is known."""

    def __init__(self, outcome: dict[str, Any] | EngineError) -> None:
        self.outcome = outcome

    def of(self, plan: ServePlan) -> Agreeing:
        assert "--flash-attn" in plan.argv
        return self

    def verdict(self) -> dict[str, Any]:
        if isinstance(self.outcome, EngineError):
            raise self.outcome
        return self.outcome


def service(tmp_path: Path, kind: str = "llama.cpp") -> Service:
    """A server that ends at once."""
    argv = [sys.executable, "-c", "raise SystemExit('no such model')", "{port}"]
    plan = ServePlan.model_validate({"kind": kind, "argv": argv, "limits": Limits(context=512, slots=2)})
    (tmp_path / "bundle").mkdir()
    return Service(tmp_path / "bundle", plan, TargetConfig(), tmp_path / "server", tmp_path / "bundle")


FAILED = EngineError("kernel agreement", "ratio 9", "ratio at most 2.9", "look at scales")
PASSED = {"outcome": "pass", "ratio": 1.0}


def test_a_second_server_that_does_not_start_leaves_the_first_ones_error(tmp_path: Path) -> None:
    notes: list[str] = []
    with pytest.raises(EngineError) as caught:
        verdict_with_second(Judged(FAILED), service(tmp_path), AgreementConfig(), notes.append)
    error = caught.value
    assert (error.thing, error.value, error.expected) == (FAILED.thing, FAILED.value, FAILED.expected)
    assert error.next_step.startswith("look at scales; with llama-server --flash-attn off there is no second opinion: ")
    assert len(notes) == 1 and not (tmp_path / "server").exists()


@pytest.mark.parametrize(("second", "kind"), [("off", "llama.cpp"), ("failed", "trtllm-engine")])
def test_off_and_an_engine_of_one_kernel_keep_the_error(tmp_path: Path, second: str, kind: str) -> None:
    params = AgreementConfig.model_validate({"second": second})
    with pytest.raises(EngineError) as caught:
        verdict_with_second(Judged(FAILED), service(tmp_path, kind), params, print)
    assert caught.value is FAILED


def test_a_sound_engine_is_asked_once_unless_always(tmp_path: Path) -> None:
    served = service(tmp_path)
    assert verdict_with_second(Judged(PASSED), served, AgreementConfig(), print) is PASSED
    always = AgreementConfig(second="always")
    refused = {"refused": "no token ids"}
    assert verdict_with_second(Judged(refused), served, always, print) is refused
    both = verdict_with_second(Judged(PASSED), served, always, print)
    assert both | PASSED == both and both["second_backend"]["setting"] == "llama-server --flash-attn off"
    assert "no such model" in both["second_backend"]["refused"]
