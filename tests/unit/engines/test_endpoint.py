from __future__ import annotations

from pathlib import Path

from slipway.engines.endpoint import TAIL_LINES, failed, log_tail
from slipway.runners.base import Job


def test_the_tail_is_of_this_start(tmp_path: Path) -> None:
    job = Job("serve-1", ("x",), tmp_path)
    assert log_tail(job) == ""
    job.log.write_text("error of yesterday\n")
    begin = job.log.stat().st_size
    assert log_tail(job, begin) == ""
    with job.log.open("a") as log:
        log.writelines(f"line {n}\n" for n in range(20))
    assert log_tail(job, begin).splitlines() == [f"line {n}" for n in range(20 - TAIL_LINES, 20)]
    job.log.write_text("cut\n")
    assert log_tail(job, begin) == "cut"


def test_bytes_of_any_kind_and_size_are_shown_bounded(tmp_path: Path) -> None:
    job = Job("serve-1", ("x",), tmp_path)
    job.log.write_bytes(b"\xff" * 1_000_000)
    assert len(str(failed(job, "died", "a server", 0))) < 10_000
