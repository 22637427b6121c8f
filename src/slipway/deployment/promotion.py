"""Promotion is a transaction: stage, start beside the champion, check, switch the pointer, record, stop the old one.

Any failure before the record undoes what was done and leaves the champion serving, untouched. A crash at any point
leaves the champion or the new release serving; the next operation first tidies what the crash left. Rollback is the
same, backwards. Runs in the orchestrator's process: no torch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from slipway.config.deploy import DeployConfig
from slipway.deployment.best_release import best_of_line
from slipway.deployment.history import Action
from slipway.deployment.policy import Asked
from slipway.deployment.releases import Release
from slipway.deployment.state import LOCK_TIMEOUT_S, tidy
from slipway.deployment.target import Target, target_for
from slipway.errors import DataError, GateError, ResourceError
from slipway.store.artifacts import Dataset, Engine, Verdict
from slipway.store.lineage import digests, lineage

Note = Callable[[str], None]


def promote(
    engine: Engine,
    verdict: Verdict,
    data: Dataset,
    documents: Mapping[str, str],
    params: DeployConfig,
    *,
    model: str,
    runs: Mapping[str, str] | None = None,
    asked: Asked | None = None,
    approved: bool = False,
    recheck: Callable[[], None] = lambda: None,
    note: Note = lambda _: None,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Release:
    """Make `engine` the serving release; the champion serves until the new one has answered.

    `documents` are files of the release by name (model card, report, decision), `runs` names tracking and flow runs,
    `model` the registered name, `asked` who wants it; `approved`: a person accepts an inconclusive verdict. `recheck`
    is called once the target is locked and before anything is staged: it raises when what was decided no longer holds.
    An engine that serves already is left alone (restarted when it does not run) and comes back with `reused`.

    Raises GateError unless the verdict passed, DataError when it judged another engine, CheckpointError for damaged
    bytes, EngineError when the new engine does not start or answer, ResourceError for ports, disk or a busy target.
    """
    target = target_for(params)
    judged = _passed(verdict, engine, approved=approved)
    with target.releases.lock(f"promotion of {engine.digest[:12]}", lock_timeout_s), ExitStack() as undo:
        tidy(target)
        recheck()
        live = target.releases.current()
        if live and target.releases.read(live).digests["engine"] == engine.digest:
            return _keep(target, live, note)
        name = target.releases.next_name(engine.digest)
        release = Release(
            name=name,
            path=str(target.releases.dir(name)),
            model=model,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            digests={**digests(engine, verdict), "dataset": data.digest},
            runs=dict(runs or {}),
            outcome=judged["outcome"],
            asked=asked,
        )
        written = {
            **documents,
            "verdict.json": json.dumps(judged, indent=1) + "\n",
            "smoke.jsonl": _smoke_rows(data, params.smoke_requests),
        }
        undo.callback(target.releases.remove, name)
        target.releases.stage(name, engine, {"release.json": release.model_dump_json(indent=1) + "\n", **written})
        note(f"staged {name}")
        released = _replace(target, "promote", live, name, undo, note)
        best = best_of_line(target.releases, model)  # later candidates are held to it
        for pruned in target.releases.prune(params.keep_releases, {best.name} if best else ()):
            note(f"pruned {pruned}")
        return released


def rollback(params: DeployConfig, *, note: Note = lambda _: None, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Release:
    """Serve the previous release again: started beside, checked, switched to; then the newer one is stopped. It stays
    on disk.

    Raises ResourceError when there is no previous release; else what `promote` raises.
    """
    target = target_for(params)
    with target.releases.lock("rollback", lock_timeout_s), ExitStack() as undo:
        tidy(target)
        previous = target.releases.previous()
        if previous is None:
            raise ResourceError(
                f"rollback of target {params.target}",
                "no previous release",
                "a release that served before",
                "promote another engine instead",
            )
        target.releases.check(previous)
        return _replace(target, "rollback", target.releases.current(), previous, undo, note)


def _replace(target: Target, action: Action, old: str | None, new: str, undo: ExitStack, note: Note) -> Release:
    """Start and check `new`, switch, record; from the record on there is no way back. Then stop `old`, also when a
    signal interrupts just then."""
    releases = target.releases
    undo.callback(target.stop, new)
    server = target.start(new)
    note(f"started {new} at {server.url}")
    smoke = target.smoke(new)
    release = releases.read(new).model_copy(update={"smoke": smoke})
    releases.write(new, "release.json", release.model_dump_json(indent=1) + "\n")
    note(f"{len(smoke)} smoke requests answered, {sum(s['json'] for s in smoke)} with JSON")
    undo.callback(releases.point, old)
    releases.point(new)
    note(f"switched to {new}")
    releases.history.record(action, new)
    undo.pop_all()
    if old:
        undo.callback(target.stop, old)
    note(f"recorded {action} of {new}")
    if old:
        target.stop(old)
        undo.pop_all()
        note(f"stopped {old}")
    return release


def _keep(target: Target, name: str, note: Note) -> Release:
    """The same engine again: nothing to switch. Started when it does not run, as after a reboot."""
    if not target.healthy(name):
        target.stop(name)
        server = target.start(name)
        note(f"restarted {name} at {server.url}")
    note(f"{name} serves this engine already")
    return target.releases.read(name).model_copy(update={"reused": True})


def _passed(verdict: Verdict, engine: Engine, *, approved: bool) -> dict[str, Any]:
    """The verdict's document; GateError unless it passed, or was inconclusive and approved; DataError when it is about
    another engine."""
    doc: dict[str, Any] = verdict.read_json("verdict.json")
    if doc["outcome"] != "pass" and not (approved and doc["outcome"] == "inconclusive"):
        raise GateError(f"verdict {verdict.digest[:12]}", doc["outcome"], "pass", "nothing was promoted: see its rules")
    if engine.digest not in {a.digest for a in lineage(verdict)}:
        raise DataError(
            f"verdict {verdict.digest[:12]}",
            "does not lead to this engine",
            f"one on engine {engine.digest[:12]}",
            "gate this engine",
        )
    return doc


def _smoke_rows(data: Dataset, count: int) -> str:
    """Test rows taken evenly, as JSONL."""
    text = (data.path / "test.jsonl").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line]  # splitlines would cut a row at U+2028
    if not lines:
        raise DataError(f"test split {data.uri}", "empty", "rows to ask the new engine", "prepare the data again")
    return "".join(f"{line}\n" for line in lines[:: max(1, len(lines) // count)][:count])
