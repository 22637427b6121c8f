"""Section deploy.probe; its bounds are tried with those of `deploy`."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.probe import ProbeConfig


def test_slowness_may_be_shown_only() -> None:
    assert ProbeConfig(slowest=None).slowest is None
    assert ProbeConfig().slowest == 20


def test_limits_of_the_answers_are_no_settings() -> None:
    """They come from what the evaluation measured."""
    assert set(ProbeConfig.model_fields) == {"timeout_s", "at_once", "slowest", "agreement"}
    with pytest.raises(ValidationError, match="Extra inputs"):
        ProbeConfig(noise=1.0)  # type: ignore[call-arg]
