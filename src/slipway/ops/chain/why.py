"""Why a stage runs: what differs between its key and that of the nearest artifact of the same stage.

Nearest is the one with the fewest differences, the newest of these. The comparison is of key documents, so a field that
was added since and has its birth value is no difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slipway.errors import ConfigError, StateError
from slipway.pipeline.stage import StageCall, stage_spec
from slipway.store.key import KEY_FORMAT
from slipway.store.manifest import MANIFEST, read_manifest

SHOWN = 60  # characters of a value
NAMED = 3  # modules whose code changed
CODE = "code"


@dataclass(frozen=True)
class Change:
    """One field of a key, as it was and as it is; `-` where it was or is not there."""

    field: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.field}: {self.before} -> {self.now}"


@dataclass(frozen=True)
class Made:
    """An artifact in the store, by what its manifest says; `path` its directory."""

    path: Path
    kind: str
    digest: str
    provenance: Mapping[str, Any]

    @property
    def created(self) -> str:
        """When it was made, UTC; it sorts as text."""
        return str(self.provenance.get("created", ""))


class Shelf:
    """What earlier runs left in a store, by stage. Damaged manifests are passed over: their artifacts are not
    reused."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def _by_stage(self) -> dict[str, list[Made]]:
        shelf: dict[str, list[Made]] = {}
        for file in sorted(self.root.glob(f"*/*/{MANIFEST}")):
            try:
                document = read_manifest(file.parent)
            except StateError:
                continue
            provenance = document["provenance"]
            made = Made(file.parent, document["kind"], document["digest"], provenance)
            shelf.setdefault(str(provenance.get("stage", "")), []).append(made)
        return shelf

    def of_stage(self, stage: str) -> list[Made]:
        """Artifacts that this stage made, oldest first."""
        return sorted(self._by_stage.get(stage, []), key=lambda made: made.created)

    def newest(self, stage: str) -> Made | None:
        """The last one that this stage made."""
        return next(reversed(self.of_stage(stage)), None)


def changes(call: StageCall, shelf: Shelf) -> list[Change] | None:
    """What differs from the nearest artifact of this stage; None when there is none to compare with. Empty: nothing
    differs, and the artifact is damaged or gone."""
    now, whole = _flat(call.key_document()), call.params.model_dump(mode="json")
    compared = []
    for made in shelf.of_stage(call.stage):
        before = _flat(_document_of(call, made))
        names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
        # what a key leaves out at its birth value is shown with that value
        was, is_now = (dict(_leaves(params, "")) for params in (made.provenance.get("params", {}), whole))
        compared.append(
            [
                _code(call, made)
                if name == CODE and made.provenance.get("modules")  # of before 2026-11-29: none
                else Change(name, _shown(before.get(name, was.get(name))), _shown(now.get(name, is_now.get(name))))
                for name in names
            ]
        )
    return min(reversed(compared), key=len, default=None)


def between(before: Made, now: Made) -> list[Change]:
    """What differs between two artifacts of one stage in what their keys hold; empty where a damaged one was made
    again."""
    was, is_now = (_flat(_own_document(made)) for made in (before, now))
    names = [name for name in dict.fromkeys([*was, *is_now]) if was.get(name) != is_now.get(name)]
    return [
        _code_change(before.provenance, now.provenance.get("modules", {}), now.provenance.get("code", ""))
        if name == CODE and before.provenance.get("modules") and now.provenance.get("modules")
        else Change(name, _shown(was.get(name)), _shown(is_now.get(name)))
        for name in names
    ]


def _code(call: StageCall, made: Made) -> Change:
    spec = stage_spec(call.stage)
    return _code_change(made.provenance, spec.module_digests(), spec.code_version())


def _code_change(before: Mapping[str, Any], modules: Mapping[str, str], version: str) -> Change:
    """The change of the code, by the modules that differ; what they were and are is no news to a reader."""
    was = before["modules"]
    names = [name for name in sorted({*was, *modules}) if was.get(name) != modules.get(name)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return Change(f"{CODE} of {', '.join(names[:NAMED])}{more}", before["code"][:12], version[:12])


def _document_of(call: StageCall, made: Made) -> dict[str, Any]:
    """The key document of an artifact, out of its manifest, with the inputs that `call` has beside."""
    document = _own_document(made)
    return {**document, "stage": call.stage, "inputs": {**dict.fromkeys(call.inputs), **document["inputs"]}}


def _own_document(made: Made) -> dict[str, Any]:
    provenance = made.provenance
    params = provenance.get("params", {})
    with suppress(ValidationError, ConfigError):  # of a version with other fields or stages: as they were written
        params = stage_spec(provenance["stage"]).params.model_validate(params).key_document()
    return {
        "format": provenance.get("key_format", KEY_FORMAT),
        "stage": provenance["stage"],
        "inputs": {name: ref["digest"] for name, ref in provenance.get("inputs", {}).items()},
        "params": params,
        "code": provenance.get("code", ""),
        "extra": provenance.get("extra", {}),
    }


def _flat(document: Mapping[str, Any]) -> dict[str, str]:
    """Field -> value: inputs and code by their first digits, params by dotted name."""
    values = {f"input {name}": (digest or "none")[:12] for name, digest in document["inputs"].items()}
    values |= {CODE: document["code"][:12], "key format": str(document["format"])}
    values |= {name: str(value) for name, value in document["extra"].items()}
    return values | dict(_leaves(document["params"], ""))


def _leaves(value: Any, name: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            yield from _leaves(below, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(value, ensure_ascii=False)


def _shown(value: str | None) -> str:
    if value is None:
        return "-"
    return value if len(value) <= SHOWN else f"{value[: SHOWN - 3]}..."
