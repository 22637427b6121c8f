"""Promotion is a transaction: stage, start beside the champion, check, switch, record, stop the old one; rollback is
the same, backwards.

The agent of the target does it and keeps its journal (`agent/transaction.py`); what is asked of the new engine before
the switch is asked from here. Any failure before the record undoes what was done and leaves the champion serving. Runs
in the orchestrator's process: no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from slipway.agent.engine_key import access_of
from slipway.config.deploy import DeployConfig
from slipway.deployment.canary import smoke
from slipway.deployment.canary.check_words import index_words
from slipway.deployment.canary.release_probe import ReleaseProbe, asked_again, probe_of, probe_on
from slipway.deployment.canary.run import Trial
from slipway.deployment.canary.target_agreement import RETURNED, judge, require_possible
from slipway.deployment.candidate import evaluation_document
from slipway.deployment.decision.best_release import best_names, no_references, shelf_of
from slipway.deployment.decision.policy import Asked
from slipway.deployment.decision.record import FILE as DECISION
from slipway.deployment.release_index import judged_index, replayed, replayed_on_return
from slipway.deployment.releases import Release
from slipway.deployment.state import LOCK_TIMEOUT_S, as_release
from slipway.deployment.target import Document, Note, TargetClient, session, settings_of
from slipway.errors import DataError, EngineError, EngineLostError, GateError
from slipway.store.artifacts import Dataset, Engine, Verdict
from slipway.store.lineage import digests, lineage
from slipway.system.files import sha256_bytes


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
    An index that the verdict judged lies beside the engine and comes and goes with it; its probes are searched again
    before anything moves. An engine that serves already, with this index, is left alone (restarted when it does not
    run) and comes back with `reused`.

    Raises GateError unless the verdict passed, DataError when it judged another engine, CheckpointError for damaged
    bytes, StateError for an index whose probes find other chunks, EngineError when the new engine does not start or
    answer, ResourceError for ports, disk or a busy target.
    """
    judged = _passed(verdict, engine, approved=approved)
    judged_with = judged_index(verdict)
    index, searched = (judged_with.index, judged_with.carried) if judged_with else (None, None)
    replay = replayed(index.path, index.digest, f"verdict {verdict.digest[:12]}") if index else {}
    require_possible(engine, params)
    rows = smoke.smoke_rows(data, params.smoke_requests)
    named = {"dataset": data.digest, **({"index": index.digest} if index else {}), **_digest_of_decision(documents)}
    record = {
        "model": model,
        "digests": {**digests(engine, verdict), **named},
        "runs": dict(runs or {}),
        "outcome": judged["outcome"],
        "asked": asked.model_dump() if asked else None,
    }
    record |= {"retrieval": searched.model_dump()} if searched else {}
    written = {**evaluation_document(verdict), **documents, smoke.DOCUMENT: rows}
    written["verdict.json"] = json.dumps(judged, indent=1) + "\n"
    probe = probe_of(verdict, engine)
    record |= {"recorded": probe.record() if probe else None}
    written |= probe.document() if probe else {}
    with session(params) as target:
        bytes_of = target.deliver(engine, written, model, note, lock_timeout_s, index)
        wanted = {"action": "promote", "engine": engine.digest, "index": index.digest if index else None}
        begun = target.call("begin", _request(params, lock_timeout_s, **wanted), note)
        recheck()
        if begun["new"] is None:
            return _keep(target, begun["current"], note)
        plan = target.start_plan(engine.path)
        target.call("stage", {**bytes_of, "release": record, "start": plan, "documents": written}, note)
        champion = begun["current"] is not None
        if not champion and params.canary.way != "none":
            note("canary: nothing serves that the candidate could be compared with; it goes without one")
        return _replace(target, begun["new"], rows, {}, note, params, probe, replay, candidate=engine, canary=champion)


def rollback(
    params: DeployConfig,
    version: str | None = None,
    *,
    owner: str = "",
    note: Note = lambda _: None,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Release:
    """Serve the previous release again, or `version` (a name, or its number) of those that can come back: started
    beside, checked, switched to; then the newer one is stopped. It stays on disk.

    Raises ResourceError when there is none to go back to; else what `promote` raises.
    """
    with session(params) as target:
        request = _request(params, lock_timeout_s, action="rollback", release=version)
        begun = target.call("begin", {**request, **({"owner": owner} if owner else {})}, note)
        name = begun["new"]
        rows = target.call("document", {"release": name, "document": smoke.DOCUMENT})["text"]
        probe = probe_on(target, name)
        returning = (as_release(row) for row in target.call("status", {})["releases"] if row["name"] == name)
        replay = next(map(replayed_on_return, returning), {})
        return _replace(target, name, rows, target.restart_plan(begun["path"]), note, params, probe, replay)


def start(params: DeployConfig, *, note: Note = lambda _: None, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Release:
    """Start what the pointer names, when it does not run; `reused` when it runs already.

    Raises ResourceError when nothing was promoted yet, CheckpointError for damaged bytes, EngineError when it does not
    start.
    """
    with session(params) as target:
        current = target.call("status", {})["current"]
        plan = target.restart_plan(current["path"]) if current else {}
        request = {"settings": settings_of(params), "wait_s": lock_timeout_s, "start": plan}
        result = target.call("start_current", request, note)
        return as_release(result["release"]).model_copy(update={"reused": not result["started"]})


def _digest_of_decision(documents: Mapping[str, str]) -> dict[str, str]:
    """What binds the decision to the release that it is about."""
    return {"decision": sha256_bytes(documents[DECISION].encode())} if DECISION in documents else {}


def _request(params: DeployConfig, wait_s: float, **more: Any) -> Document:
    return {"settings": settings_of(params), "wait_s": wait_s, **more}


def _replace(
    target: TargetClient,
    name: str,
    rows: str,
    plan: Document,
    note: Note,
    params: DeployConfig,
    probe: ReleaseProbe | None,
    replay: Document,
    *,
    candidate: Engine | None = None,
    canary: bool = False,
) -> Release:
    """Start and check the new release, switch and record. `replay`: what its index's probes found. `candidate`: what is
    promoted, None for a release that comes back; with it old releases go, but the best ones, to which later candidates
    are held; they are looked up before anything starts: a damaged record that decides refuses it. `canary`: there is a
    champion to try it beside."""
    spare = []
    if replay:
        note(f"index {index_words(replay)}")
    if candidate:
        shelf = shelf_of(target)
        spare = best_names(shelf)
        for sentence in no_references(shelf):
            note(sentence)
    trial = Trial(target, params.canary, note) if canary else None
    if trial:
        trial.before_start()
    endpoint = target.call("start", {"start": plan}, note)
    with refused_for_good(), target.reach(endpoint) as url:
        model, access = endpoint["model"], access_of(endpoint)
        answers = smoke.ask(rows, url, model, name, access)
        note(f"{len(answers)} smoke requests answered, {sum(answer['json'] for answer in answers)} with JSON")

        def agreement(url: str) -> dict[str, Any]:
            return judge(candidate, url, params, note, endpoint) if candidate else {"refused": RETURNED}

        checks = {"probe": asked_again(probe, url, model, params.probe, note, agreement, access)}
        checks |= {"index": replay} if replay else {}
        checks |= trial.after_probe(url, model, access) if trial else {}
    target.call("switch", {"smoke": answers, "checks": checks}, note)
    return as_release(target.call("commit", {"spare": spare}, note)["release"])


@contextmanager
def refused_for_good() -> Iterator[None]:
    """A candidate that stops answering while it is asked is refused: for an engine that serves another attempt may do,
    for a candidate this is the verdict, and none is started twice."""
    try:
        yield
    except EngineLostError as err:
        raise EngineError(err.thing, err.value, err.expected, err.next_step) from err


def _keep(target: TargetClient, current: Document, note: Note) -> Release:
    """The same engine again: nothing to switch. Started when it does not run, as after a reboot."""
    plan = target.restart_plan(current["path"])
    release = as_release(target.call("start_current", {"start": plan}, note)["release"])
    note(f"{release.name} serves this engine already")
    return release.model_copy(update={"reused": True})


def _passed(verdict: Verdict, engine: Engine, *, approved: bool) -> dict[str, Any]:
    """The verdict's document; GateError unless it passed, or was inconclusive and approved; DataError when it is about
    another engine."""
    doc: dict[str, Any] = verdict.read_json("verdict.json")
    if doc["outcome"] != "pass" and not (approved and doc["outcome"] == "inconclusive"):
        next_step = "nothing was promoted: see its rules"
        if doc["outcome"] == "inconclusive":
            next_step += f"; `slipway promote {verdict.path} --approve REASON` if a person accepts it"
        raise GateError(f"verdict {verdict.digest[:12]}", doc["outcome"], "pass", next_step)
    if engine.digest not in {a.digest for a in lineage(verdict)}:
        raise DataError(
            f"verdict {verdict.digest[:12]}",
            "does not lead to this engine",
            f"one on engine {engine.digest[:12]}",
            "gate this engine",
        )
    return doc
