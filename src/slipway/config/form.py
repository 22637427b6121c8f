"""Parameters of a run through Prefect: the form that its UI shows, and the way from a filled-in form to a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from slipway.config.base import NO_CREDENTIALS, SecretUrl
from slipway.config.load import Config, load_config
from slipway.errors import ConfigError
from slipway.system.redact import has_credentials

_LAYERS = {
    "title": "layers",
    "description": "Files of conf/ that fill sections, e.g. quantize: formats/fp8; or the name of a preset, e.g. "
    "smoke. "
    "Values given beside them win.",
    "anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}],
}


@dataclass(frozen=True)
class ConfigForm:
    """Annotation of a flow's parameter: its JSON schema is the config's, every key optional, with `defaults` filled
    in."""

    defaults: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = handler(Config.__pydantic_core_schema__)
        whole = handler.resolve_ref_schema(reference)
        _fill(whole, self.defaults, handler)
        whole["properties"]["layers"] = _LAYERS
        return reference


@dataclass(frozen=True)
class OverridesForm:
    """Annotation of a flow's parameter: a list of `key=value` words, none of which may hold a literal password."""

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "pattern": NO_CREDENTIALS}}


def form_defaults(config: Config) -> dict[str, Any]:
    """The values that the form shows, as JSON. A value with credentials is left out: `conf/` gives it where the run
    is."""
    dumped: dict[str, Any] = config.model_dump(mode="json")
    for section, model in config:
        for key, value in model if isinstance(model, BaseModel) else ():
            if isinstance(value, SecretUrl) and has_credentials(value.get_secret_value()):
                del dumped[section][key]
    return dumped


def run_config(conf: Path, given: Any, overrides: Sequence[str] = ()) -> Config:
    """The config of a run: a `Config` as it is, else partial values over `conf/`, then `overrides`.

    A section with all of its keys comes from the form, which sends its defaults along: of such a section only the
    values that differ from `conf/` count as given, so that a layer chosen beside it takes effect. Raises ConfigError.
    """
    if isinstance(given, Config):
        if overrides:
            raise ConfigError("overrides", list(overrides), "none beside a whole config", "put them into the config")
        return given
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError("parameter config", type(given).__name__, "a mapping of sections", "see `slipway config`")
    return load_config(conf, overrides, _changed(given or {}, form_defaults(load_config(conf))))


def _changed(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, where a section that has every key of the form keeps only the values that differ from the form's."""
    changed = {}
    for section, values in given.items():
        default = defaults.get(section)
        whole = isinstance(values, Mapping) and isinstance(default, Mapping) and values.keys() >= default.keys()
        changed[section] = (
            {k: v for k, v in values.items() if k not in default or v != default[k]} if whole and default else values
        )
    return changed


def _fill(schema: dict[str, Any], defaults: Any, handler: GetJsonSchemaHandler) -> None:
    """Set the defaults of a section's schema and of those below it; no key is required in a partial config."""
    schema.pop("required", None)
    for key, field in schema.get("properties", {}).items():
        if isinstance(defaults, Mapping):
            field.pop("default", None)
            field |= {"default": defaults[key]} if key in defaults else {}
        if "oneOf" in field:  # a partial value may fit several of them
            field["anyOf"] = field.pop("oneOf")
            field.pop("discriminator", None)
        for branch in (field, *field.get("anyOf", ()), field.get("additionalProperties")):
            if isinstance(branch, dict) and "$ref" in branch:
                below = handler.resolve_ref_schema({"$ref": branch["$ref"]})
                _fill(below, _of_kind(below, field.get("default")), handler)


def _of_kind(schema: Mapping[str, Any], value: Any) -> Any:
    """`value` when this schema describes it: its keys are the schema's, and its `kind`, where it has one, too."""
    properties = schema.get("properties", {})
    if not isinstance(value, Mapping) or not value.keys() <= properties.keys():
        return None
    return value if properties.get("kind", {}).get("const", value.get("kind")) == value.get("kind") else None
