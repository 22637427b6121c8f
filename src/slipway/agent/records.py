"""JSON files that others may have touched: read whole and checked, or refused by one error that names the file.

Slipway's own records (endpoints, releases, manifests, job files) lie where people, backups, editors and full disks
reach them. What cannot be read as what was written is a StateError, never a traceback and never a guess. `Fields` reads
the values of one object, by hand: there is no pydantic on a target.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.errors import StateError

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
        with open(path, "rb", opener=without_waiting) as file:  # Path.open takes no opener
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
        raise StateError(f"{what}: {path}", shown(rows), "a JSON array of objects", next_step)
    return rows


def read_json_lines(path: Path, what: str, next_step: str, *, appended: bool = False) -> list[dict[str, Any]]:
    """The JSON objects in a file of one a line. `appended`: its last line may be half written, and is passed over then.
    Raises StateError naming the line that is no object."""
    text = read_text(path, what, next_step)
    if appended:
        text = text[: text.rfind("\n") + 1]
    return parse_json_lines(text, f"{what}: {path}", next_step)


def parse_json_lines(text: str, thing: str, next_step: str) -> list[dict[str, Any]]:
    """The JSON objects of a text of one a line. Raises StateError naming the line that is none."""
    text = text.removesuffix("\n")
    lines = text.split("\n") if text else []  # splitlines would cut a text at U+2028
    return [_object(line, f"{thing}, line {number}", next_step) for number, line in enumerate(lines, 1)]


def without_waiting(path: str, flags: int) -> int:
    """A pipe would wait for a writer for ever; opened like this it is seen to be no regular file."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _object(text: str, thing: str, next_step: str) -> dict[str, Any]:
    doc = _parsed(text, thing, next_step)
    if not isinstance(doc, dict):
        raise StateError(thing, shown(doc), "a JSON object", next_step)
    return doc


def _parsed(text: str, thing: str, next_step: str) -> object:
    try:
        doc: object = json.loads(text)
    except (ValueError, RecursionError) as err:
        reason = "nested too deep" if isinstance(err, RecursionError) else f"{err}: {shown(text)}"
        raise StateError(thing, reason if text.strip() else "empty", "JSON", next_step) from err
    return doc


def _reason(err: OSError | ValueError) -> str:
    if isinstance(err, UnicodeDecodeError):
        return f"not UTF-8 at byte {err.start}"
    return (err.strerror if isinstance(err, OSError) else None) or str(err)


def shown(value: object) -> str:
    """A value from a file that others may have touched, for an error: printable, of bounded length."""
    text = value if isinstance(value, str) else repr(value)
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:SHOWN_CHARS])
    return printable + ("..." if len(text) > SHOWN_CHARS else "")


def utc_now() -> str:
    """This second, as records have it: `2026-11-29T06:30:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Fields:
    """The values of one JSON object, each of the type asked for. Every method raises StateError naming the key.

    `thing` says in the error what the object is, `next_step` what to do about it. A key that is absent or null has the
    default where one is given.
    """

    def __init__(self, document: Mapping[str, Any], thing: str, next_step: str) -> None:
        self._document, self._thing, self._next_step = document, thing, next_step

    def text(self, key: str, default: str | None = None, pattern: str = "") -> str:
        """A string; with `pattern`, one that this regular expression matches whole."""
        value: str = self._value(key, str, "a text", default)
        if pattern and not re.fullmatch(pattern, value):
            raise self._wrong(key, value, f"a text of the form {pattern}")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number."""
        value: int = self._value(key, int, "a whole number", default)
        if isinstance(value, bool):
            raise self._wrong(key, value, "a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number, whole or not, 0 or more."""
        value = self._value(key, (int, float), "a number", default)
        if isinstance(value, bool) or not 0 <= value < float("inf"):
            raise self._wrong(key, value, "a number, 0 or more")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """true or false."""
        return bool(self._value(key, bool, "true or false", default))

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """An array of strings."""
        values = self._value(key, (list, tuple), "an array of texts", default)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(key, values, "an array of texts")
        return tuple(values)

    def text_map(self, key: str, default: Mapping[str, str] | None = None) -> dict[str, str]:
        """An object whose values are strings."""
        values = self._value(key, dict, "an object of texts", default)
        if not all(isinstance(value, str) for value in values.values()):
            raise self._wrong(key, values, "an object of texts")
        return dict(values)

    def objects(self, key: str, default: tuple[dict[str, Any], ...] | None = None) -> tuple[dict[str, Any], ...]:
        """An array of objects."""
        values = self._value(key, (list, tuple), "an array of objects", default)
        if not all(isinstance(value, dict) for value in values):
            raise self._wrong(key, values, "an array of objects")
        return tuple(values)

    def document(self, key: str, default: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """An object."""
        return dict(self._value(key, dict, "an object", default))

    def _value(self, key: str, kind: type | tuple[type, ...], expected: str, default: Any) -> Any:
        value = self._document.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, kind):
            raise self._wrong(key, "absent" if key not in self._document else value, expected)
        return value

    def _wrong(self, key: str, value: object, expected: str) -> StateError:
        return StateError(self._thing, f"{key}: {shown(value)}", expected, self._next_step)
