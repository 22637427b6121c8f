"""What `slipway status` knows: services, the target's releases and holds, the store, and anything left over. Reads
only, but for an alias that an earlier switch left pending."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slipway.agent.lock import described
from slipway.config.load import Config
from slipway.deployment.state import Status, status
from slipway.deployment.target import damaged_in
from slipway.engines.served import served_folders
from slipway.errors import SlipwayError
from slipway.ops.alias_mirror import seen
from slipway.ops.credentials import read_credentials
from slipway.ops.gc import Item, freeable, plan
from slipway.ops.services import Services
from slipway.ops.stage_processes import StageProcess, stage_processes
from slipway.ops.training_jobs import PREFIX, training_jobs
from slipway.pipeline.runs import Runs
from slipway.pipeline.stage import STAGE_FILE
from slipway.runners.lease import Priority, lease_folder, turns
from slipway.store.usage import SERVE
from slipway.system.http import is_healthy


def overview(config: Config, *, mend: bool = False) -> dict[str, Any]:
    """A plain document: `services`, `target`, `releases`, `busy` (who changes the target now, or empty), `holds`,
    `mirror` (MLflow's alias beside the pointer, set to it with `mend`), `store`, `freeable` (what `slipway gc` would
    remove), `artifacts` (count and bytes per kind), `training` (jobs that run), `runs` (of flows), `stages` (processes
    that run), `machine` (who has this machine's lease, who waits), `served` (by `slipway serve`), `leftovers`.
    Raises StateError for a record that cannot be read."""
    root = Path(config.store.root)
    jobs, unfollowed = training_jobs(config)
    stages = stage_processes(root)
    items = plan(config, {job.name for job in jobs})
    now = status(config.deploy)
    return {
        "services": _services(),
        "target": config.deploy.target,
        "clients": _clients(now),
        "releases": _releases(now),
        "busy": described(now.document["lock"]) if now.document["lock"] is not None else "",
        "holds": now.document["holds"],
        "mirror": seen(config, now, mend=mend).to_json(),
        "store": str(root),
        "freeable": freeable(items),
        "artifacts": _artifacts(root),
        "training": [job.to_json() for job in jobs],
        "runs": _runs(root),
        "stages": [stage.to_json() for stage in stages],
        "machine": _machine(Path(config.store.cache)),
        "served": _served(root),
        "leftovers": [
            *_left_on_target(now),
            *_unfollowed_stages(stages),
            *_left_by_serve(root),
            *unfollowed,
            *_unfinished_work(root, {*(stage.name for stage in stages), *(job.name for job in jobs)}, items),
        ],
    }


def _machine(cache: Path) -> dict[str, Any]:
    """Who works under this machine's lease and who waits for it, the first in turn first."""
    folder = lease_folder(cache)
    now = turns(folder)
    held = _wish(now.holder.name, now.holder.priority, now.holder.pid, now.holder.since) if now.holder else None
    return {
        "host": platform.node(),
        "lease": str(folder),
        "holder": {**held, "followed": now.followed} if held else None,
        "waiting": [_wish(one.name, one.priority, one.pid, one.since) for one in now.waiting],
        "problem": now.problem,
    }


def _wish(name: str, priority: int, pid: int, since: float) -> dict[str, Any]:
    names = {int(one): one.name.lower() for one in Priority}
    seconds = round(max(0.0, time.time() - since), 1)
    return {"name": name, "priority": names.get(priority, str(priority)), "pid": pid, "seconds": seconds}


def _served(root: Path) -> list[dict[str, Any]]:
    """Servers that `slipway serve` commands hold now."""
    return [
        {"directory": one.directory, "port": port or None, "state": "serving" if port else "starting"}
        for one in served_folders(root / SERVE)
        for port in one.ports
    ]


def _left_by_serve(root: Path) -> list[dict[str, str]]:
    return [
        {
            "what": f"a server of {one.directory or one.home} on port {port}, whose `slipway serve` is gone",
            "advice": f"`slipway serve {one.directory or 'DIRECTORY'}` adopts it, Ctrl-C ends it",
        }
        for one in served_folders(root / SERVE)
        for port in one.left
    ]


def _services() -> list[dict[str, Any]]:
    services = Services.here()
    return [
        {"name": "Prefect", "url": services.prefect_url, "up": is_healthy(f"{services.prefect_url}/api/health")},
        {"name": "MLflow", "url": services.mlflow_url, "up": is_healthy(f"{services.mlflow_url}/health")},
    ]


def login_pages() -> list[dict[str, str]]:
    """Address, user and password of the Prefect and MLflow pages. Raises ResourceError before the first `make up`."""
    services = Services.here()
    credentials = read_credentials(services.data)
    return [
        {"name": row["name"], "url": row["url"], "user": credentials.user, "password": credentials.password}
        for row in _services()
    ]


def _clients(now: Status) -> str:
    """How clients reach the target: one address, or a port that changes; what is wrong with it; who changes it now."""
    busy = f"; at work: {described(now.document['lock'])}" if now.document["lock"] is not None else ""
    return f"{_address(now)}{busy}"


def _address(now: Status) -> str:
    if not now.records:
        return "no release yet; `slipway run` makes one"
    switching = now.document["switching"]
    if switching["address"] is None:
        return str(switching["note"])
    return f"clients use {switching['address']}" + (f"; {switching['note']}" if switching["note"] else "")


def _releases(now: Status) -> list[dict[str, Any]]:
    rows = []
    for release in now.records:
        serving = now.release is not None and release.name == now.release.name
        state = (
            ("serving" if now.healthy else "not answering")
            if serving
            else ("previous" if release.name == now.previous else "kept")
        )
        rows.append(
            {
                "name": release.name,
                "engine": release.digests.get("engine", ""),
                "index": release.index_digest,
                "created": release.created,
                "state": state,
                "url": now.url if serving else None,
            }
        )
    return rows


def _artifacts(root: Path) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for manifest in sorted(root.glob("*/*/manifest.json")):
        row = counts.setdefault(manifest.parent.parent.name, {"count": 0, "bytes": 0})
        row["count"] += 1
        row["bytes"] += sum(f.stat().st_size for f in manifest.parent.rglob("*") if f.is_file())
    return counts


def _left_on_target(now: Status) -> list[dict[str, str]]:
    """Engines of this target that the pointer does not name, also of releases whose directory is gone (deleted, or
    moved with the whole target while they served); what the serving release lacks in its cluster; and a transaction
    whose agent died."""
    if now.document["lock"] is not None:
        return []  # what runs beside the champion is somebody's, at this moment
    rows = [
        {
            "what": f"engine of release {lost['release']}" + (", whose directory is gone" if lost["gone"] else ""),
            "advice": "`slipway stop` ends it",
        }
        for lost in now.document["lost"]
    ]
    rows += [_set_aside(SlipwayError.from_json(row["error"])) for row in damaged_in(now.document)]
    for thing in now.document.get("missing", ()):
        what = f"{thing} of {now.document['pointer']}, which serves, is gone from the cluster"
        rows.append({"what": what, "advice": "`slipway start` puts it back"})
    if cut := now.document["interrupted"]:
        what = f"{cut['action']} of {cut['release']} by {cut['by']} was interrupted"
        rows.append({"what": what, "advice": "the next command on the target ends it: `slipway start`"})
    return rows


def _set_aside(err: SlipwayError) -> dict[str, str]:
    """A release that does not serve and whose record is damaged: it cannot come back, and is never pruned."""
    return {"what": f"{err.thing}: {err.value}, so it is set aside", "advice": err.next_step}


def _runs(root: Path) -> list[dict[str, Any]]:
    """Flows that work here now, and those that were killed and whose books the next run closes."""
    runs = Runs(root)
    return [
        {
            "name": entry.name,
            "pid": entry.process.pid,
            "host": entry.host,
            "started": entry.started,
            "state": "running" if runs.works(entry) else "killed",
        }
        for entry in runs.entries()
    ]


def _unfollowed_stages(stages: Sequence[StageProcess]) -> list[dict[str, str]]:
    return [
        {
            "what": f"stage {stage.name} (pid {stage.pid}) runs, and no flow follows it",
            "advice": "run again to go on with it, or `slipway stop` ends it",
        }
        for stage in stages
        if not stage.followed
    ]


def _unfinished_work(root: Path, running: set[str], items: Sequence[Item]) -> list[dict[str, str]]:
    """Work folders of stages that did not finish; `running` names the stage processes and training jobs that still
    work, `items` says what `slipway gc` would do with each folder."""
    works = [file.parent for file in sorted(root.glob(f"work/*/{STAGE_FILE}"))]
    planned = {item.name: item for item in items if item.what == "work"}
    return [
        {"what": f"unfinished {work.name}", "advice": _advice_on_work(work, planned.get(work.name))}
        for work in works
        if not {work.name, f"{PREFIX}{work.name}"} & running
    ]


def _advice_on_work(work: Path, item: Item | None) -> str:
    """What to do with an unfinished work folder: `slipway gc` removes it, keeps it for a reason, or does not know it
    (another name than Slipway gives)."""
    if item is None:
        return f"`slipway gc` does not know this folder; delete {work} when nobody needs it"
    if item.action == "keep":
        return item.why
    return "run again to resume, or `slipway gc --yes` removes it"
