"""Options and keys of an engine's version: every one that we emit or a person gives is checked before anything starts.

`contract.json` beside each driver holds, by version, the options of the server's command line and the tree of its
config file. A version without a list of its own is checked against what both neighbours have (the nearest older and
newer list), and the plan says so. `null` in the tree: nobody listed the keys below; they are passed on, and the plan
says that too.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from packaging.version import InvalidVersion, Version

from slipway.errors import ConfigError
from slipway.system.nearest import did_you_mean

Tree = Mapping[str, Any]
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
_NAMES_SHOWN = 30


@dataclass(frozen=True)
class Contract:
    """What one version of a program takes. `notes`: what about the check a person should know."""

    name: str
    options: Tree
    keys: Tree
    notes: tuple[str, ...] = ()

    def argv(self, options: Mapping[str, Any]) -> list[str]:
        """Options as a command line, each checked: `True` a bare flag, `False` its negation, a list several values, a
        mapping JSON. Raises ConfigError for an option that the contract does not know or a value of another kind."""
        words: list[str] = []
        for given, value in options.items():
            name = self._known(given)
            canonical = self.canonical(name)
            words += _words(name, value, self._record(canonical), self)
        return words

    def canonical(self, name: str) -> str:
        """The contract's first spelling of an option, no alias. Raises ConfigError for an unknown one."""
        spelling = self._known(name)
        record = self._record(spelling)
        return spelling if record["kind"] == "off" else str(record.get("is", spelling))

    def check_keys(self, document: Tree) -> list[str]:
        """Check every key of a config file; returns the names of sections whose own keys no list has.

        Raises ConfigError for an unknown key or a value of another kind."""
        unlisted: list[str] = []
        self._check_tree("", document, self.keys, unlisted)
        return unlisted

    def _known(self, name: str) -> str:
        """The listed spelling that a person meant: dashes before it may be missing, inner ones be underscores."""
        dashed = name if name.startswith("-") else f"--{name}"
        for form in (dashed, dashed.replace("_", "-"), "--" + dashed.lstrip("-").replace("-", "_")):
            if form in self.options:
                return form
        near = did_you_mean(name.lstrip("-"), [n.lstrip("-") for n in self.options], "remove it")
        raise ConfigError(f"engine option {name}", "unknown", f"an option of {self.name}", near)

    def _record(self, name: str) -> dict[str, Any]:
        record = self.options[name]
        return {"kind": record} if isinstance(record, str) else {"kind": "alias", **record}

    def _check_tree(self, place: str, document: Tree, known: Tree, unlisted: list[str]) -> None:
        for key, value in document.items():
            thing = f"{place}{key}"
            if key not in known:
                expected = f"a key of {self.name}: one of {_shown(known)}"
                raise ConfigError(f"engine key {thing}", "unknown", expected, did_you_mean(key, known, "remove it"))
            kind = known[key]
            if value is None:
                continue  # the engine's default, for every key
            if kind is None:
                unlisted.append(thing)
            elif not isinstance(kind, Mapping):
                _check_value(f"engine key {thing}", value, kind, self.name)
            elif isinstance(value, Mapping):
                self._check_tree(f"{thing}.", value, kind, unlisted)
            else:
                raise ConfigError(f"engine key {thing}", value, "a mapping of keys", "give its keys below it")


def load_contract(driver: str, version: str) -> Contract:
    """The contract of `version`, or what both neighbours of it have. `driver` is a folder of `slipway.engines`.

    Raises ConfigError when `version` is none that can be ordered.
    """
    document = _document(driver)
    options, options_of = _at(document["options"], version)
    keys, keys_of = _at(document.get("keys", {}), version)
    tool = document["tool"]
    notes = [
        f"No list of the {what} of {tool} {version}: checked against {' and '.join(versions)}."
        for what, versions in (("options", options_of), ("keys", keys_of))
        if versions and versions != [version]
    ]
    return Contract(f"{tool} {version}", options, keys, tuple(notes))


def newest(driver: str) -> str:
    """The newest version whose options are listed."""
    return versions(driver)[-1]


def versions(driver: str) -> list[str]:
    """Versions whose options are listed, oldest first."""
    return sorted(_document(driver)["options"], key=Version)


@functools.cache
def _document(driver: str) -> dict[str, Any]:
    text = resources.files(f"slipway.engines.{driver}").joinpath("contract.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def _at(lists: Mapping[str, Tree], version: str) -> tuple[Tree, list[str]]:
    """The list of a version, or what the nearest older and newer list agree on; and whose lists these are."""
    try:
        wanted = Version(version)
    except InvalidVersion:
        raise ConfigError(
            "contract of an image or of engine.contract", version, "the engine's version, as 0.26.0", "mend it"
        ) from None
    older = [v for v in lists if Version(v) <= wanted]
    newer = [v for v in lists if Version(v) > wanted]
    if not lists:
        return {}, []
    if version in lists or not newer or not older:
        chosen = max(older, key=Version) if older else min(newer, key=Version)
        return lists[chosen], [chosen]
    low, high = max(older, key=Version), min(newer, key=Version)
    return _agreed(lists[low], lists[high]), [low, high]


def _agreed(one: Tree, other: Tree) -> Tree:
    """Names that both have, of equal kinds, with the choices that both have."""
    agreed: dict[str, Any] = {}
    for name in one.keys() & other.keys():
        first, second = one[name], other[name]
        records = [record if isinstance(record, Mapping) else {"kind": record} for record in (first, second)]
        choices = [record["choices"] for record in records if "choices" in record]
        if first == second:
            agreed[name] = first
        elif choices and records[0].get("kind") == records[1].get("kind"):
            agreed[name] = {**records[0], "choices": [c for c in choices[0] if c in choices[-1]]}
    return agreed


def _words(name: str, value: Any, record: Mapping[str, Any], contract: Contract) -> list[str]:
    thing, kind = f"engine option {name}", record["kind"]
    if kind in ("flag", "off"):
        if not isinstance(value, bool):
            raise ConfigError(thing, value, "true or false: it takes no value", "give a truth value")
        negation = next((n for n, r in contract.options.items() if r == {"kind": "off", "is": name}), None)
        if value:
            return [name]
        if negation is None:
            raise ConfigError(thing, value, "an option that can be switched off", "leave it out")
        return [negation]
    values = value if isinstance(value, list) and record.get("many") else [value]
    if isinstance(value, list) and not record.get("many"):
        raise ConfigError(thing, value, "one value", "give one")
    for one in values:
        _check_value(thing, one, record.get("choices") or kind, contract.name)
    return [name, *(json.dumps(one) if isinstance(one, Mapping) else _plain(one) for one in values)]


def _check_value(thing: str, value: Any, kind: Any, program: str) -> None:
    if isinstance(kind, list):
        for one in value if isinstance(value, list) else [value]:
            if str(one) not in [str(choice) for choice in kind]:
                raise ConfigError(
                    thing,
                    one,
                    f"for {program} one of {', '.join(map(str, kind))}",
                    did_you_mean(str(one), map(str, kind), "choose one of them"),
                )
        return
    types = _TYPES.get(kind)
    if types and (not isinstance(value, types) or (isinstance(value, bool) and kind != "bool")):
        raise ConfigError(thing, f"{value!r}"[:200], f"{kind}, as {program} takes it", "give such a value")


def _plain(value: Any) -> str:
    """A number without an exponent that an `int` would not take; text as it is."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _NAMES_SHOWN} more" if len(ordered) > _NAMES_SHOWN else ""
    return ", ".join(ordered[:_NAMES_SHOWN]) + more
