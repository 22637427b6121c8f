"""What a target serves now, what a candidate has to beat, and its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.config.deploy import DeployConfig
from slipway.deployment.decision.best_release import best_beside, best_names, shelf_of
from slipway.deployment.releases import Release, Stopped
from slipway.deployment.target import Note, session, settings_of, status_of
from slipway.errors import SlipwayError
from slipway.store.artifacts import Engine
from slipway.system.json_files import as_model

LOCK_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Status:
    """What a target serves. `url` is None while no engine runs; `healthy` was asked just now; `records`: every release
    on it, oldest first; `withdrawn`: first digits of the engines that were rolled back from; `last`: the last line of
    its history; `document`: all that its agent said."""

    release: Release | None
    url: str | None
    healthy: bool
    previous: str | None
    records: list[Release]
    withdrawn: frozenset[str] = frozenset()
    last: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def releases(self) -> list[str]:
        """Names of the releases on it, oldest first."""
        return [release.name for release in self.records]


def status(params: DeployConfig) -> Status:
    """What the target serves now. Raises StateError when a record that decides cannot be read; a damaged record of a
    release that does not serve is in `document["damaged"]` only."""
    with session(params) as target:
        document = status_of(target)
    return Status(
        release=as_release(document["current"]) if document["current"] else None,
        url=document["url"],
        healthy=document["healthy"],
        previous=document["previous"],
        records=[as_release(record) for record in document["releases"]],
        withdrawn=frozenset(document["withdrawn"]),
        last=document["last"] or {},
        document=document,
    )


def as_release(record: object) -> Release:
    """A release out of its record. Raises StateError naming the field that does not fit."""
    name = record.get("name", "?") if isinstance(record, dict) else "?"
    return as_model(Release, record, f"record of release {name}", "promote its engine again")


def champion(params: DeployConfig) -> Release | None:
    """The release that the pointer names, running or not; None before the first promotion."""
    return status(params).release


def rival(engine: Engine, line: str, params: DeployConfig) -> Release | None:
    """The release that `engine` has to beat: the serving one, or, when that is this very engine, the one before it.

    None where that is of another line: it was made for other data, and how it does on these rows says nothing."""
    now = status(params)
    served = [r for r in (now.release, next((r for r in now.records if r.name == now.previous), None)) if r]
    against = next((r for r in served if r.digests["engine"] != engine.digest), None)
    return against if against and against.model == line else None


def index_rival(engine: Engine, index: str, line: str, params: DeployConfig) -> Release | None:
    """The release whose index a candidate's has to beat, by the digest of the candidate's: the serving one, or, when
    that is this engine with this index, the one before it. None where that is of another line."""
    now = status(params)
    served = [r for r in (now.release, next((r for r in now.records if r.name == now.previous), None)) if r]
    ours = engine.digest, index
    against = next((r for r in served if (r.digests["engine"], r.index_digest) != ours), None)
    return against if against and against.model == line else None


def best_of_line(engine: Engine, line: str, params: DeployConfig) -> Release | None:
    """The best release of `line`, which candidate `engine` is held to beside its rival; None where the rival is it."""
    against = rival(engine, line, params)
    champion = against.digests["engine"] if against else None
    with session(params) as target:
        return best_beside(shelf_of(target), line, engine.digest, champion)


def was_withdrawn(params: DeployConfig, engine: Engine) -> bool:
    """Whether somebody rolled back from this very engine; only a promotion by hand brings it back."""
    return engine.digest[:8] in status(params).withdrawn


def stop(
    params: DeployConfig, *, note: Callable[[Stopped], None] = lambda _: None, lock_timeout_s: float = LOCK_TIMEOUT_S
) -> list[Stopped]:
    """End every engine of the target, the serving one and leftovers; the pointer stays. What was ended, each shown to
    `note`.

    Engines end first: a record that cannot be read raises StateError only after them.
    """
    with session(params) as target:
        result = target.call("stop", {"settings": settings_of(params), "wait_s": lock_timeout_s})
    stopped = [Stopped(**row) for row in result["stopped"]]
    for engine in stopped:
        note(engine)
    if result["error"]:
        raise SlipwayError.from_json(result["error"])
    return stopped


def versions(params: DeployConfig) -> list[dict[str, Any]]:
    """The releases on a target, newest first, as the agent's verb `versions` gives them, a damaged one named as such;
    takes no lock. Raises StateError for a damaged history."""
    with session(params) as target:
        return list(target.call("versions", {})["versions"])


def collect_releases(params: DeployConfig, *, dry_run: bool, note: Note = lambda _: None) -> list[str]:
    """Delete old releases of a target; names of the deleted, or with `dry_run` of those that would be. What serves, the
    previous one, the best of each line, damaged ones and what a hold names stay."""
    with session(params) as target:
        spare = best_names(shelf_of(target))
        request = {"settings": settings_of(params), "keep": params.keep_releases, "dry_run": dry_run, "spare": spare}
        return list(target.call("gc", request, note)["pruned"])
