"""A job that makes room; with real processes in test_lease.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slipway.runners.base import Job, State, follow
from slipway.runners.local import LocalRunner
from slipway.runners.yielding import PreemptedError, YieldingRunner


def test_a_job_ends_by_itself_where_nobody_waits_and_an_ended_one_is_not_preempted(tmp_path: Path) -> None:
    job = Job("j", (sys.executable, "-c", "print(1)"), tmp_path)
    assert follow(YieldingRunner(LocalRunner(), lambda: ""), job, lambda: None).state is State.DONE
    ended = Job("k", (sys.executable, "-c", "print(1)"), tmp_path)
    runner = LocalRunner()
    follow(runner, ended, lambda: None)
    outcome = YieldingRunner(runner, lambda: "serving").poll(ended)
    assert outcome and outcome.state is State.DONE


def test_a_preempted_job_may_be_tried_again(tmp_path: Path) -> None:
    job = Job("j", (sys.executable, "-c", "import time; time.sleep(600)"), tmp_path, stop_s=0)
    with pytest.raises(PreemptedError, match="job j: made room for serving") as caught:
        follow(YieldingRunner(LocalRunner(), lambda: "serving"), job, lambda: None)
    assert caught.value.transient
