"""Rows of the preflight, and the error of those that fail."""

from __future__ import annotations

import pytest

from slipway.errors import ConfigError, ResourceError
from slipway.ops.doctor import Check
from slipway.ops.preflight.finding import Finding, of_check, of_error, require_ready


def test_every_row_that_fails_is_named_in_one_error() -> None:
    rows = [
        Finding("a", "disk", "fail", "1 GB free", "free some"),
        Finding("b", "clock", "warn", "an hour ahead", "set it"),
        Finding("b", "GPU", "fail", "none", "mend the driver"),
    ]
    with pytest.raises(ResourceError) as error:
        require_ready(rows)
    assert str(error.value).count("GPU: none") == 1 and "an hour ahead" not in str(error.value)
    assert error.value.next_step == "free some; mend the driver"
    require_ready(rows[1:2])


def test_rows_come_of_checks_and_of_errors() -> None:
    assert of_check("m", Check("disk", "warn", "low", "free")).to_json() == {
        "machine": "m", "name": "disk", "status": "warn", "found": "low", "advice": "free",
    }  # fmt: skip
    row = of_error("m", "agent", ConfigError("host x", "no answer", "an sshd", "start it"))
    assert (row.status, row.finding, row.advice) == ("fail", "host x: no answer", "an sshd: start it")
