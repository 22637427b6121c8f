"""Stage processes of a store that run now, and whether a flow follows them.

A flow that is killed leaves its stage running. Run again, the next one adopts it; `slipway stop` ends it, with its time
to save.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from slipway.errors import ResourceError
from slipway.pipeline.stage import STAGE_FILE
from slipway.runners import local
from slipway.runners.base import Job, cancel_patiently
from slipway.system.locks import is_held, locked


@dataclass(frozen=True)
class StageProcess:
    """`name`: the stage and the first digits of its key, as its work folder is called. `followed`: a flow waits for
    it."""

    name: str
    pid: int
    followed: bool

    def to_json(self) -> dict[str, Any]:
        """As a plain document."""
        return asdict(self)


def stage_processes(store: Path) -> list[StageProcess]:
    """The stage processes that run for this store on this machine, by name."""
    works = [file.parent for file in sorted(store.resolve().glob(f"work/*/{STAGE_FILE}"))]
    jobs = [_job(work) for work in works]
    return [StageProcess(job.name, local.pid(job) or 0, is_held(_lock(job.work))) for job in jobs if local.alive(job)]


def stop_unfollowed(store: Path) -> list[StageProcess]:
    """End the stage processes that no flow follows, each with its time to save; the ones that were ended."""
    ended = []
    for stage in stage_processes(store):
        job = _job(store.resolve() / "work" / stage.name)
        try:
            with locked(_lock(job.work), 0.0, "stop"):  # so that no run adopts it meanwhile
                cancel_patiently(local.LocalRunner(), job)
                ended.append(stage)
        except ResourceError:  # a flow follows it, or has just begun to
            continue
    return ended


def _job(work: Path) -> Job:
    job = Job(work.name, (str(work / STAGE_FILE),), work)  # what its command line holds
    return replace(job, stop_s=local.recorded_stop_s(job))


def _lock(work: Path) -> Path:
    return work.with_name(f"{work.name}.lock")
