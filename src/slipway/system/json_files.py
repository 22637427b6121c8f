"""JSON files that others may have touched: read whole and checked, or refused by one error that names the file.

Slipway's own records (endpoints, releases, manifests, job files) lie where people, backups, editors and full disks
reach them. What cannot be read as what was written is a StateError, never a traceback and never a guess.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from slipway.errors import StateError

M = TypeVar("M", bound=BaseModel)
MAX_BYTES = 256 << 20  # a manifest of a million files; more is no record of ours
SHOWN_CHARS = 200


def is_present(path: Path) -> bool:
    """Whether anything has this name, a symlink to nothing included. Raises StateError when the folder cannot be looked
    into.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as err:
        raise StateError(f"file {path}", _reason(err), "a folder that can be read", "mend its permissions") from err
    return True


def read_text(path: Path, what: str, next_step: str) -> str:
    """The UTF-8 text of a regular file of at most MAX_BYTES. Raises StateError: absent, no file, no permission, huge,
    no text.

    `what` says in the error what the file is (`endpoint of release 0001-ab`), `next_step` what to do about it.
    """
    expected = "a readable text file"
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:  # Path.open takes no opener
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise StateError(f"{what}: {path}", "no regular file", expected, next_step)
            if status.st_size > MAX_BYTES:
                raise StateError(f"{what}: {path}", f"{status.st_size} bytes", f"at most {MAX_BYTES}", next_step)
            return file.read().decode("utf-8")
    except (OSError, ValueError) as err:
        dangling = isinstance(err, FileNotFoundError) and path.is_symlink()
        value = f"a symlink to {path.readlink()}, which does not exist" if dangling else _reason(err)
        raise StateError(f"{what}: {path}", value, expected, next_step) from err


def read_value(path: Path, what: str, next_step: str) -> Any:
    """The JSON value in a file, of whatever type. Raises StateError as `read_text`, and when the text is no JSON."""
    return _parsed(read_text(path, what, next_step), f"{what}: {path}", next_step)


def read_json(path: Path, what: str, next_step: str) -> dict[str, Any]:
    """The JSON object in a file. Raises StateError as `read_text`, and when the text is no JSON object."""
    return _object(read_text(path, what, next_step), f"{what}: {path}", next_step)


def read_json_list(path: Path, what: str, next_step: str) -> list[dict[str, Any]]:
    """The JSON array of objects in a file. Raises StateError as `read_text`, and when the text is anything else."""
    rows = _parsed(read_text(path, what, next_step), f"{what}: {path}", next_step)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise StateError(f"{what}: {path}", _shown(rows), "a JSON array of objects", next_step)
    return rows


def read_json_lines(path: Path, what: str, next_step: str) -> list[dict[str, Any]]:
    """The JSON objects in a file of one a line. Raises StateError naming the line that is none."""
    text = read_text(path, what, next_step).removesuffix("\n")
    lines = text.split("\n") if text else []  # splitlines would cut a text at U+2028
    return [_object(line, f"{what}: {path}, line {number}", next_step) for number, line in enumerate(lines, 1)]


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
        raise StateError(thing, f"{where}: {_shown(first['input'])}", first["msg"], next_step) from err


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe would wait for a writer for ever; opened like this it is seen to be no regular file."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _object(text: str, thing: str, next_step: str) -> dict[str, Any]:
    doc = _parsed(text, thing, next_step)
    if not isinstance(doc, dict):
        raise StateError(thing, _shown(doc), "a JSON object", next_step)
    return doc


def _parsed(text: str, thing: str, next_step: str) -> object:
    try:
        doc: object = json.loads(text)
    except (ValueError, RecursionError) as err:
        reason = "nested too deep" if isinstance(err, RecursionError) else f"{err}: {_shown(text)}"
        raise StateError(thing, reason if text.strip() else "empty", "JSON", next_step) from err
    return doc


def _reason(err: OSError | ValueError) -> str:
    if isinstance(err, UnicodeDecodeError):
        return f"not UTF-8 at byte {err.start}"
    return (err.strerror if isinstance(err, OSError) else None) or str(err)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:SHOWN_CHARS])
    return printable + ("..." if len(text) > SHOWN_CHARS else "")
