"""Looks at a target on Kubernetes, as the agent gives them (`agent/looks.py`): a damaged record blocks none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slipway.deployment.kubernetes.lease import TargetLease
from slipway.deployment.kubernetes.record import RECORD, RENDERED, Journal, KubernetesRecord, Switch, line_of
from slipway.errors import StateError

Document = dict[str, Any]


@dataclass(frozen=True)
class KubernetesStatus:
    """What a target does now: the serving release, whether it answers, what can come back, who holds the lock.

    `records`: of the releases that have a sound one; `damaged`: why the others are not, by release, and why history and
    journal are not, by these words; a damaged history is empty, a damaged journal null. `unreadable`: why nobody can
    apply a release again whose record is sound. `missing`: objects that the serving release needs and that are gone, as
    `KIND NAME`."""

    serving: str | None
    healthy: bool
    releases: list[str]
    history: list[Switch]
    lock: dict[str, str] | None
    journal: Journal | None
    records: dict[str, dict[str, Any]]
    damaged: dict[str, StateError]
    unreadable: dict[str, StateError]
    missing: list[str]

    @property
    def line(self) -> list[str]:
        """The releases that led to the serving one, oldest first."""
        return line_of(self.history)

    @property
    def previous(self) -> str | None:
        """The release that a rollback goes to: one with a sound record."""
        kept = [name for name in self.line[:-1] if name in self.records and name not in self.unreadable]
        return kept[-1] if kept else None


def look(record: KubernetesRecord, lease: TargetLease, serving: str | None) -> KubernetesStatus:
    """What the records say beside `serving`; healthy and complete are not asked here."""
    releases = record.releases()
    records, damaged = record.descriptions(releases)
    unreadable = record.unreadable(records)
    history: list[Switch] = []
    journal = None
    try:
        history = record.history()
    except StateError as err:
        damaged["history"] = err
    try:
        journal = record.journal()
    except StateError as err:
        damaged["journal"] = err
    holder = lease.holder()
    return KubernetesStatus(serving, False, releases, history, holder, journal, records, damaged, unreadable, [])


def status_document(now: KubernetesStatus, address: str) -> Document:
    """As the agent's verb `status`; `address`: of the Service that clients use."""
    served = {switch.release for switch in now.history}
    url = address if now.serving else None
    return {
        "pointer": now.serving,
        "damaged": _all_damaged(now),
        "missing": now.missing,
        "current": now.records.get(now.serving or ""),
        "endpoint": {"url": url} if url else None,
        "url": url,
        "healthy": now.healthy,
        "previous": now.previous,
        "releases": list(now.records.values()),
        "last": vars(now.history[-1]) if now.history else None,
        "line": now.line,
        "withdrawn": sorted({name.rpartition("-")[2] for name in served - set(now.line)}),
        "lost": [],
        "switching": {"kind": "kubernetes", "address": address, "note": "", "way": "beside"},
        "interrupted": vars(now.journal) | {"by": "an orchestrator"} if now.journal and not now.lock else None,
        "lock": now.lock,
        "holds": [],
    }


def versions_document(now: KubernetesStatus) -> Document:
    """As the agent's verb `versions`."""
    return {"versions": [_version(name, now) for name in reversed(now.releases)]}


def _version(name: str, now: KubernetesStatus) -> Document:
    served = [switch.time for switch in now.history if switch.release == name]
    if why := now.damaged.get(name) or now.unreadable.get(name):
        blank = dict.fromkeys(("created", "model", "engine"), "")
        return {"name": name, **blank, "served": served, "state": "damaged", "error": str(why)}
    state = "returnable" if name in now.line else "left"
    state = {now.serving: "serving", now.previous: "previous"}.get(name, state)
    record = now.records[name]
    row = {key: record.get(key, "") for key in ("name", "created", "model")}
    return {**row, "engine": record["digests"]["engine"], "served": served, "state": state}


def _all_damaged(now: KubernetesStatus) -> list[Document]:
    """Rows of `status` about what cannot be read. What was applied decides nothing: who serves and who chose it is on
    record without it, or nothing is on record at all, and then it counts as a person's choice of no known line."""
    rows = [_damaged(name, err, now.serving) for name, err in now.damaged.items()]
    rows += [_row(RENDERED, name, err, decides=False) for name, err in now.unreadable.items()]
    if now.serving and now.serving not in now.releases:
        next_step = "promote an engine: it takes its place; until then it is asked by what the cluster has of it"
        gone = StateError(
            f"release {now.serving}, which serves", "nothing is kept of it", "its two ConfigMaps", next_step
        )
        rows.append(_row(RECORD, now.serving, gone, decides=False))
    return rows


def _damaged(name: str, err: StateError, serving: str | None) -> Document:
    """A row of `status` about a record that cannot be read."""
    release = None if name in ("history", "journal") else name
    return _row(RECORD if release else name, release, err, decides=release in (None, serving))


def _row(record: str, release: str | None, err: StateError, *, decides: bool) -> Document:
    return {"record": record, "release": release, "decides": decides, "error": err.to_json()}
