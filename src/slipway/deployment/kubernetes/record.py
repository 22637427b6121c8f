"""What Slipway remembers of a Kubernetes target, in ConfigMaps of its namespace: any orchestrator can go on.

    NAME-record     journal: the open transaction, absent when there is none; history: one switch a line, newest last
    NAME-RELEASE-manifests   what was applied for a release, so that a rollback needs no store and no pipeline
    NAME-RELEASE-record      its record, and texts for people

The last two hold a copy of each other: whoever deletes one of them takes nothing away.

The pointer is not here: which release serves is what the cluster routes to (`KubernetesReleases.serving`). Written by
version: whoever lost the lock without noticing cannot write over the next holder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from slipway.agent.records import utc_now
from slipway.config.kubernetes import KubernetesConfig
from slipway.deployment.kubernetes.api import ChangedError, KubernetesAPI
from slipway.deployment.kubernetes.manifests import RELEASE, metadata, object_name
from slipway.deployment.kubernetes.pod import Manifest
from slipway.errors import ResourceError, StateError

PART = "slipway.part"  # label
RECORD = "release.json"
RENDERED = "rendered"
_OF_A_RELEASE = "delete that ConfigMap, the other one of this release has a copy; or promote its engine again"
_PARTS = ("record", "manifests")  # ConfigMaps of a release, in the order in which they are written
MOST_TEXT = 100_000  # characters; a ConfigMap holds 1 MiB in all
MOST_SWITCHES = 1000  # a ConfigMap holds 1 MiB


@dataclass(frozen=True)
class Switch:
    """One line of the history: when (UTC), `promote` or `rollback`, to which release, by whom."""

    time: str
    action: str
    release: str
    owner: str


@dataclass(frozen=True)
class Journal:
    """The open transaction: what it does to which release, who served before, and how far it came."""

    action: str
    release: str
    champion: str
    step: str


@dataclass(frozen=True)
class Rendered:
    """A release as it was applied: its name, its own objects at full size, and its predictor where KServe serves it;
    `health`: the path that says ready, `port`: of its Service."""

    name: str
    objects: tuple[Manifest, ...]
    predictor: Manifest
    health: str
    port: int


class KubernetesRecord:
    """Journal, history and releases of one target."""

    def __init__(self, api: KubernetesAPI, params: KubernetesConfig) -> None:
        self._api, self._params, self._name = api, params, f"{params.name}-record"

    def journal(self) -> Journal | None:
        """The transaction that is open. Raises StateError for a damaged one."""
        text = self._data().get("journal", "")
        return Journal(**_fields(text, "journal", Journal)) if text else None

    def write_journal(self, journal: Journal | None) -> None:
        """Note how far the transaction came; null ends it. Raises ResourceError when another orchestrator wrote."""
        self._write({"journal": "" if journal is None else json.dumps(asdict(journal))})

    def history(self) -> list[Switch]:
        """Every switch, oldest first. Raises StateError naming the line that is none."""
        lines = self._data().get("history", "").splitlines()
        return [Switch(**_fields(line, f"history, line {n}", Switch)) for n, line in enumerate(lines, 1)]

    def record(self, journal: Journal, owner: str) -> None:
        """Add the switch to the history and mark the transaction as recorded, in one write."""
        now = utc_now()
        switches = [*self.history(), Switch(now, journal.action, journal.release, owner)][-MOST_SWITCHES:]
        text = "".join(json.dumps(asdict(switch)) + "\n" for switch in switches)
        recorded = json.dumps({**asdict(journal), "step": "recorded"})
        self._write({"history": text, "journal": recorded})

    def keep(
        self, rendered: Rendered, record: Mapping[str, Any] | None = None, texts: Mapping[str, str] | None = None
    ) -> None:
        """Keep what a release is made of, its record (JSON values), and texts for people and later commands; of texts
        those of at most `MOST_TEXT` characters: longer ones stay in the bundle alone."""
        short = {key: text for key, text in (texts or {}).items() if len(text.encode()) <= MOST_TEXT}
        whole = {**short, RENDERED: json.dumps(asdict(rendered))}
        whole |= {} if record is None else {RECORD: json.dumps(record)}
        for part in _PARTS:
            self._api.apply(self._part(rendered.name, part, whole))

    def describe(self, name: str, record: Mapping[str, Any]) -> None:
        """Put a release's record in the place of the one of before."""
        self._api.apply(self._part(name, "record", {**self._kept(name), RECORD: json.dumps(record)}))

    def missing(self, name: str) -> list[str]:
        """ConfigMaps of a release that are gone, as `ConfigMap NAME`."""
        return [f"ConfigMap {self._part_name(name, part)}" for part in _PARTS if self._get(name, part) is None]

    def mend(self, name: str) -> None:
        """Write the ConfigMap of a release that is gone anew, out of the other one's copy; nothing where both are."""
        kept = self._kept(name)
        for part in _PARTS if kept else ():
            if self._get(name, part) is None:
                self._api.apply(self._part(name, part, kept))

    def texts(self, name: str) -> dict[str, str]:
        """The texts of a release that are kept here, by name; empty when none are."""
        return {key: text for key, text in self._kept(name).items() if key not in (RECORD, RENDERED)}

    def description(self, name: str) -> dict[str, Any]:
        """The record of a release. Raises StateError when it is not there or damaged."""
        record = _object(self._kept(name).get(RECORD, ""), f"record of release {name}", _OF_A_RELEASE)
        digests = record.get("digests")
        if record.get("name") != name or not isinstance(digests, dict) or not isinstance(digests.get("engine"), str):
            value = f"{record!r:.100}"
            next_step = f"{_OF_A_RELEASE}; or `slipway rollback`"
            raise StateError(f"record of release {name}", value, "its name and digests", next_step)
        return record

    def is_damaged(self, name: str) -> bool:
        """Whether what is kept of a release cannot be read."""
        kept = self._kept(name)
        return (RECORD in kept and name in self.descriptions([name])[1]) or name in self.unreadable([name])

    def unreadable(self, names: Iterable[str]) -> dict[str, StateError]:
        """Of those releases that nobody can apply again: why."""
        damaged = {}
        for name in names:
            try:
                self.release(name)
            except StateError as err:
                damaged[name] = err
        return damaged

    def descriptions(self, names: Iterable[str]) -> tuple[dict[str, dict[str, Any]], dict[str, StateError]]:
        """The records of releases by name; and, of those whose record is damaged, why it is."""
        records, damaged = {}, {}
        for name in names:
            try:
                records[name] = self.description(name)
            except StateError as err:
                damaged[name] = err
        return records, damaged

    def release(self, name: str) -> Rendered:
        """A release that was kept. Raises StateError when it is not there any more, or damaged."""
        thing = f"release {name} on {self._params.name}"
        text = self._kept(name).get(RENDERED)
        if text is None:
            known = ", ".join(self.releases()) or "none"
            raise StateError(thing, "not kept", f"one of {known}", "promote it again")
        values = _object(text, thing, _OF_A_RELEASE)
        try:
            return Rendered(**{**values, "objects": tuple(values["objects"])})
        except (KeyError, TypeError) as err:
            raise StateError(thing, str(err)[:200], "what Slipway wrote", _OF_A_RELEASE) from err

    def releases(self) -> list[str]:
        """Names of the releases that are kept, oldest first."""
        items = self._api.list("ConfigMap", {"app.kubernetes.io/instance": self._params.name})
        labels = [item["metadata"].get("labels", {}) for item in items]
        return sorted({each[RELEASE] for each in labels if each.get(PART) in _PARTS and RELEASE in each})

    def forget(self, name: str) -> None:
        """Delete what was kept of a release."""
        for part in _PARTS:
            self._api.delete("ConfigMap", self._part_name(name, part))

    def _part_name(self, name: str, part: str) -> str:
        return f"{object_name(self._params, name)}-{part}"

    def _part(self, name: str, part: str, data: Mapping[str, str]) -> Manifest:
        own = metadata(self._params, self._part_name(name, part), name)
        own["labels"] = {**own["labels"], PART: part}
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": own, "data": dict(data)}
        return document | ({"immutable": True} if part == "manifests" else {})

    def _get(self, name: str, part: str) -> dict[str, str] | None:
        document = self._api.get("ConfigMap", self._part_name(name, part))
        return None if document is None else document.get("data") or {}

    def _kept(self, name: str) -> dict[str, str]:
        """Both ConfigMaps of a release as one: each is the truth about its own part and may stand for the other."""
        record, manifests = ((self._get(name, part) or {}) for part in _PARTS)
        own = {key: manifests[key] for key in (RENDERED,) if key in manifests}
        return {**manifests, **record, **own}

    def _read(self) -> Manifest:
        own = {"name": self._name, "labels": {"app.kubernetes.io/instance": self._params.name}}
        return self._api.get("ConfigMap", self._name) or {"apiVersion": "v1", "kind": "ConfigMap", "metadata": own}

    def _data(self) -> dict[str, str]:
        data: dict[str, str] = self._read().get("data") or {}
        return data

    def _write(self, data: Mapping[str, str]) -> None:
        document = self._read()
        merged = {key: text for key, text in {**(document.get("data") or {}), **data}.items() if text}
        try:
            self._api.replace({**document, "data": merged})
        except ChangedError as err:
            next_step = "`slipway status` shows who holds it; run again"
            raise ResourceError(
                f"record of target {self._params.name}", f"{err} changed meanwhile", "one orchestrator", next_step
            ) from err


def line_of(history: Iterable[Switch]) -> list[str]:
    """The releases that led to the last switch's, oldest first."""
    line: list[str] = []
    for switch in history:
        if switch.action == "rollback" and switch.release in line:
            del line[line.index(switch.release) + 1 :]
        else:
            line.append(switch.release)
    return line


def next_name(names: list[str], digest: str) -> str:
    """The number after every number ever used on the target, and 8 digits of the engine's digest."""
    used = [int(name.partition("-")[0]) for name in names]
    return f"{max(used, default=0) + 1:04d}-{digest[:8]}"


def _object(text: str, thing: str, next_step: str = "delete that key of the ConfigMap") -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as err:
        raise StateError(thing, str(err)[:200], "what Slipway wrote", next_step) from err
    if not isinstance(value, dict):
        raise StateError(thing, str(value)[:200], "a JSON object", next_step)
    return value


def _fields(text: str, thing: str, kind: type[Journal] | type[Switch]) -> dict[str, str]:
    """A JSON object of exactly the texts that a dataclass has."""
    value = _object(text, thing)
    expected = {field.name for field in fields(kind)}
    if set(value) != expected or not all(isinstance(one, str) for one in value.values()):
        raise StateError(thing, text[:200], f"texts {', '.join(sorted(expected))}", "delete that line of the ConfigMap")
    return value
