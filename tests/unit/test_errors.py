"""Errors cross the border of a process whole."""

import json

from slipway.errors import LONGEST, CheckpointError, ConfigError, SlipwayError


def test_errors_survive_json():
    err = CheckpointError("a", 3, "b", "c")
    back = SlipwayError.from_json(json.loads(json.dumps(err.to_json())))
    assert type(back) is CheckpointError and str(back) == str(err) and back.exit_code == 2


def test_a_message_is_bounded_and_keeps_both_ends_of_a_long_value():
    error = ConfigError("key", "a" + "x" * 10**6 + "z", "text", "shorten it")
    assert len(str(error)) < 2 * LONGEST and "996082 characters left out" in str(error)
    assert str(error).startswith("key: axxx") and "xxz; expected text. Next: shorten it" in str(error)
    again = SlipwayError.from_json(error.to_json())
    assert str(again) == str(error) and len(error.to_json()["value"]) < 2 * LONGEST
    assert ConfigError("key", 3, "text", "mend it").value == 3
