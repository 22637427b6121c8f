"""Files that metrics read: a JSON Schema, a judge's prompt. Read before the run's work begins, so that their content is
part of the evaluation's key and a mistake in them costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway.data import strict_json
from slipway.errors import ConfigError
from slipway.evaluation.judge import PROMPT, check_prompt


def json_schema(path: str | None) -> dict[str, Any] | None:
    """The schema in a file, checked against its own draft; None for None. Raises ConfigError for anything that is no
    schema."""
    if path is None:
        return None
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    text = _text(path, "evaluate.json_schema")
    try:
        schema = strict_json.parse(text)
    except ValueError as err:
        raise _no_schema(path, str(err)) from err
    if not isinstance(schema, dict):
        raise _no_schema(path, f"a JSON {type(schema).__name__}")
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as err:
        raise _no_schema(path, f"{'.'.join(map(str, err.path)) or 'the schema'}: {err.message}") from err
    return schema


def judge_prompt(path: str | None) -> str:
    """The judge's prompt in a file, the shipped one for None. Raises ConfigError when a place is missing."""
    if path is None:
        return PROMPT
    prompt = _text(path, "evaluate.judge.prompt")
    check_prompt(prompt, path)
    return prompt


def _text(path: str, key: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as err:
        raise ConfigError(key, f"{path}: {err.strerror}", "a readable file", "correct the path") from err
    except UnicodeDecodeError as err:
        raise ConfigError(key, f"{path}: byte {err.start} is not UTF-8", "UTF-8 text", "save it as UTF-8") from err


def _no_schema(path: str, what: str) -> ConfigError:
    return ConfigError("evaluate.json_schema", f"{path}: {what[:200]}", "a JSON Schema", "correct the file")
