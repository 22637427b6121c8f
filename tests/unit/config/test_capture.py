"""Section deploy.capture; its bounds are tried with those of `deploy`."""

from __future__ import annotations

from slipway.config.capture import CaptureConfig


def test_it_says_how_much_is_kept_and_turns_nothing_on() -> None:
    assert set(CaptureConfig.model_fields) == {"days", "megabytes"}
    assert (CaptureConfig().days, CaptureConfig().megabytes) == (7, 50)
