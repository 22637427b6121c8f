"""Which errors of a stage are worth another attempt."""

from __future__ import annotations

import errno

import pytest
from prefect.task_engine import TaskRunTimeoutError

from slipway.errors import (
    BusyError,
    ConfigError,
    EngineError,
    EngineLostError,
    GateError,
    LinkLostError,
    ResourceError,
    SlipwayError,
    StageError,
    StageKilledError,
)
from tasks.stage_task import is_transient

PARTS = ("thing", "value", "expected", "next")


@pytest.mark.parametrize("kind", [StageKilledError, BusyError, EngineLostError, LinkLostError])
def test_what_ended_from_outside_is_tried_again_also_when_a_stage_process_says_so(kind: type[SlipwayError]) -> None:
    assert is_transient(kind(*PARTS))
    assert is_transient(SlipwayError.from_json(kind(*PARTS).to_json()))


@pytest.mark.parametrize("kind", [EngineError, StageError, GateError, ConfigError, ResourceError])
def test_a_refused_candidate_a_bug_and_bad_input_are_not(kind: type[SlipwayError]) -> None:
    assert not is_transient(kind(*PARTS))


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionResetError("by peer"), True),
        (OSError(errno.ETIMEDOUT, "timed out"), True),
        (FileNotFoundError(errno.ENOENT, "no such file"), False),
        (OSError(errno.ENOSPC, "no space left"), False),
        (PermissionError(errno.EACCES, "denied"), False),
        (TaskRunTimeoutError("longer than its limit"), False),
        (ValueError("a bug"), False),
        (None, False),
    ],
)
def test_of_other_errors_only_a_cut_connection_is(error: object, again: bool) -> None:
    assert is_transient(error) == again
