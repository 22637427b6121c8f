"""What a Slurm cluster says before a job is made for it: the partition, its time limit, and nodes that can take it.

One question, `sinfo --Node`, on the host that will submit: a node and partition a line, with the node's state, generic
resources and the partition's time limit. A node counts where it can get work: it answers and is not drained, down or
reserved for maintenance; one that is powered down to save energy is powered up for a job.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slipway.agent.slurm.commands import call, seconds
from slipway.errors import SlipwayError
from slipway.ops.preflight.finding import Finding, of_error

FORMAT = "%N|%P|%T|%G|%l"
WORKS = {"idle", "mixed", "allocated", "completing", "planned"}
UNREACHABLE = "*"  # behind a state: the node does not answer


@dataclass(frozen=True)
class Place:
    """A node in a partition. `default`: whether jobs that name none go to this partition; `gpus`: of any type;
    `limit_s`: seconds that a job may take, None for no limit."""

    node: str
    partition: str
    default: bool
    state: str
    gpus: int
    limit_s: float | None

    @property
    def takes_work(self) -> bool:
        """Whether a job can start there, now or when others end."""
        return not self.state.endswith(UNREACHABLE) and re.sub(r"[^a-z].*", "", self.state) in WORKS


def slurm_checks(where: str, partition: str | None, nodes: int, gpus: int, time_limit: str) -> Iterator[Finding]:
    """The rows about a job of `nodes` nodes with `gpus` GPUs each for `time_limit` ([D-]HH:MM:SS) in `partition` (None:
    the default one). A controller that does not answer is a row."""
    try:
        places = places_of(call("sinfo", "--noheader", "--Node", f"--format={FORMAT}"))
    except SlipwayError as err:
        yield of_error(where, "Slurm", err)
        return
    there = [one for one in places if (one.partition == partition if partition else one.default)]
    if not there:
        names = ", ".join(sorted({one.partition for one in places})) or "none with a node"
        asked = f"{partition} is not there" if partition else "the cluster has no default one"
        yield Finding(where, "partition", "fail", f"{asked}; it has {names}", "name one of them in the target's row")
        return
    yield _limit(where, there[0], time_limit)
    yield _nodes(where, there, nodes, gpus)


def places_of(text: str) -> list[Place]:
    """The lines of `sinfo` in FORMAT; others are left out."""
    fields = (line.strip().split("|") for line in text.splitlines())
    return [_place(*row) for row in fields if len(row) == FORMAT.count("|") + 1]


def _place(node: str, partition: str, state: str, resources: str, limit: str) -> Place:
    default = partition.endswith("*")
    return Place(node, partition.rstrip("*"), default, state.lower(), _gpus(resources), seconds(limit))


def _gpus(resources: str) -> int:
    """`gpu:h100:8(S:0-1),gpu:4,nvme:1` are 12 GPUs."""
    return sum(int(count) for count in re.findall(r"(?:^|,)gpu(?::[^:,(]+)?:(\d+)", resources))


def _limit(where: str, place: Place, asked: str) -> Finding:
    wanted = seconds(asked)
    known = "none" if place.limit_s is None else f"{place.limit_s / 3600:g} h"
    finding = f"{place.partition}; a job may take {known}, {asked} is asked for"
    if wanted is not None and place.limit_s is not None and wanted > place.limit_s:
        return Finding(where, "partition", "fail", finding, "ask for less (time_limit), or another partition")
    return Finding(where, "partition", "ok", finding)


def _nodes(where: str, places: Sequence[Place], nodes: int, gpus: int) -> Finding:
    fit = [one for one in places if one.gpus >= gpus]
    able = [one for one in fit if one.takes_work]
    idle = sum(one.state.startswith("idle") for one in able)
    asked = f"{nodes} with {gpus} GPUs each" if gpus else f"{nodes}"
    states = ", ".join(sorted({f"{one.node} {one.state}" for one in fit if not one.takes_work})[:5])
    finding = f"{len(able)} of {len(places)} take such a job, {idle} idle now; {asked} are asked for"
    finding += f"; not: {states}" if states else ""
    if len(able) >= nodes:
        return Finding(where, "nodes", "ok", finding)
    if len(fit) >= nodes:
        return Finding(where, "nodes", "warn", finding, "the job waits until they are back; `sinfo --list-reasons`")
    return Finding(where, "nodes", "fail", finding, "another partition, or another row of conf/targets")
