"""Engines that stages serve for a while, and that nobody asks any more: what a killed stage left running."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import StateError
from slipway.runners import local
from slipway.runners.base import SERVING, Job, read_job_file


@dataclass(frozen=True)
class ModelServer:
    """A server by the record in its stage's folder: the job's name, whether the stage lives, its pid where it is a
    process of this machine."""

    name: str
    followed: bool
    pid: int | None


def model_servers(store: Path) -> list[ModelServer]:
    """Servers that the work folders of a store record, running or not. A damaged record counts as none: the next run
    of its stage says so."""
    servers = []
    for record in sorted(store.glob(f"work/*/*/{SERVING}")):
        stage, server = record.parent.parent, record.parent
        try:
            name = read_job_file(record).get("name")
        except StateError:
            continue
        job = Job(str(name), (), server)
        pid = local.pid(job) if local.alive(job) else None
        servers.append(ModelServer(str(name), local.alive(Job(stage.name, (), stage)), pid))
    return servers


def left_over(servers: Iterable[ModelServer], elsewhere: Iterable[tuple[str, str, str]]) -> list[dict[str, str]]:
    """Rows of servers that run without their stage. `elsewhere`: name, place and stop command of the jobs that
    engines and controllers list."""
    unfollowed = {server.name: server for server in servers if not server.followed}
    rows = [(f"process {s.pid}", f"`kill {s.pid}`") for s in unfollowed.values() if s.pid]
    rows += [(place, stop) for name, place, stop in elsewhere if name in unfollowed]
    advice = "run again to adopt it, or end it:"
    return [{"what": f"{place} serves a model that nobody asks", "advice": f"{advice} {stop}"} for place, stop in rows]
