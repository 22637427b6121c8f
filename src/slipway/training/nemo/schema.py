"""Every key of a recipe against what nemo-automodel 0.7.0 reads (`nemo_schema.json`), before anything starts.

Upstream stops at an unknown key in most sections, minutes after the container started; at the top level, in
`quantization` and in a few others it ignores the key without a message. Here both are errors, and the message of the
second kind says that upstream would ignore the key.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from slipway.errors import ConfigError
from slipway.system.nearest import did_you_mean

Doc = Mapping[str, Any]


@functools.cache
def load_schema() -> dict[str, Any]:
    """By section: its keys, what upstream does with unknown ones, and the variants that add keys. Read once."""
    text = resources.files("slipway.training.nemo").joinpath("nemo_schema.json").read_text(encoding="utf-8")
    sections: dict[str, Any] = json.loads(text)["sections"]
    return sections


def check_recipe(recipe: Doc) -> None:
    """Check every section and key of a rendered recipe. Raises ConfigError for one that upstream does not know, for a
    value that is none of the key's choices, and for a required key that is missing."""
    known = load_schema()
    for name, section in recipe.items():
        rule = known.get("dataset" if name.startswith("validation_dataset") else name)
        if rule is None:
            raise _unknown(name, known, "upstream would ignore it silently")
        if rule.get("value") or rule.get("unknown") == "free":
            continue
        _check_section(name, section, rule)
    for name in (name for name, rule in known.items() if rule.get("required") and name not in recipe):
        raise ConfigError(f"recipe key {name}", "missing", "a value", "add it")


def _check_section(name: str, section: Any, rule: Doc) -> None:
    if not isinstance(section, Mapping):
        raise ConfigError(f"recipe section {name}", section, "a mapping of keys", "give its keys below it")
    keys = {**rule["keys"], **_variant(name, section, rule)}
    for key, value in section.items():
        if key not in keys:
            raise _unknown(f"{name}.{key}", [f"{name}.{k}" for k in keys], _upstream_answer(rule, key))
        choices = keys[key].get("choices")
        if choices and value not in choices:
            raise ConfigError(
                f"recipe key {name}.{key}", value, f"one of {', '.join(map(str, choices))}", "choose one of them"
            )
    for key in (key for key, what in keys.items() if what.get("required") and key not in section):
        raise ConfigError(f"recipe key {name}.{key}", "missing", "a value", "add it")


def _variant(name: str, section: Doc, rule: Doc) -> dict[str, Any]:
    """Keys that one strategy, class or loss has of its own."""
    if "by" not in rule:
        return {}
    chosen = re.split(r"[.:]", str(section.get(rule["by"], rule.get("default", ""))))[-1]
    variants: dict[str, dict[str, Any]] = rule["variants"]
    if chosen not in variants:
        raise _unknown(
            f"{name}.{rule['by']}={chosen}", [f"{name}.{rule['by']}={v}" for v in variants], "it could not be checked"
        )
    return variants[chosen]


def _upstream_answer(rule: Doc, key: str) -> str:
    """What upstream would do with an unknown key, in words; also whether it is a key of another variant of the section,
    which upstream drops like any other."""
    elsewhere = any(key in keys for keys in rule.get("variants", {}).values())
    unknown = str(rule["unknown"])
    if unknown == "ignored":
        return "upstream would ignore it silently" + (f"; it belongs to another {rule['by']}" if elsewhere else "")
    return f"upstream would stop with {unknown}" if unknown.endswith("Error") else f"upstream: {unknown}"


def _unknown(key: str, known: Iterable[str], fate: str) -> ConfigError:
    names = sorted(known)
    hint = did_you_mean(key, names, "remove it")
    return ConfigError(
        f"recipe key {key}", f"unknown ({fate})", f"one of {', '.join(n.rsplit('.', 1)[-1] for n in names)}", hint
    )
