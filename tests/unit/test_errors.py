"""Errors cross the border of a process whole."""

import json

from slipway.errors import CheckpointError, SlipwayError


def test_errors_survive_json():
    err = CheckpointError("a", 3, "b", "c")
    back = SlipwayError.from_json(json.loads(json.dumps(err.to_json())))
    assert type(back) is CheckpointError and str(back) == str(err) and back.exit_code == 2
