"""JSON files that others may have touched, as pydantic models; they are read as `agent/records.py` reads them, whose
functions are handed on here."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from slipway.agent.records import is_present, read_json, read_json_lines, read_json_list, read_text, read_value, shown
from slipway.errors import StateError

__all__ = [
    "as_model",
    "is_present",
    "read_json",
    "read_json_lines",
    "read_json_list",
    "read_model",
    "read_text",
    "read_value",
]

M = TypeVar("M", bound=BaseModel)


def read_model(model: type[M], path: Path, what: str, next_step: str) -> M:
    """The JSON object in a file as this pydantic model. Raises StateError naming the first field that does not fit."""
    return as_model(model, read_json(path, what, next_step), f"{what}: {path}", next_step)


def as_model(model: type[M], doc: object, thing: str, next_step: str) -> M:
    """`doc`, read from a file before, as this pydantic model. Raises StateError naming the first field that does not
    fit.
    """
    try:
        return model.model_validate(doc)
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise StateError(thing, f"{where}: {shown(first['input'])}", first["msg"], next_step) from err
