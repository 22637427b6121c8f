"""JSON read without loss: what Python's reader takes in silence and another reader takes otherwise is refused by name.

Refused: a key that one object holds twice, NaN and Infinity, numbers beyond what a double holds, nesting too deep to
write again, surrogates without their pair. Line separators (U+2028, U+0085) within strings are text like any other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

SHOWN_CHARS = 80
DEEPEST = 200  # objects and lists in one another; templates and Arrow give up at similar depths


def parse(text: str) -> Any:
    """The value of one JSON text. Raises ValueError with a reason of bounded length."""
    try:
        return _DECODER.decode(text)
    except RecursionError as err:
        raise ValueError("nested too deep") from err
    except json.JSONDecodeError as err:
        raise ValueError(f"not JSON: {err.msg} at character {err.pos + 1}") from err


def parse_from(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at `start`, and where it ends. Raises ValueError like `parse`, json.JSONDecodeError for a
    text that may only be cut off."""
    try:
        return _DECODER.raw_decode(text, start)
    except RecursionError as err:
        raise ValueError("nested too deep") from err


def encode(value: Any) -> bytes:
    """One line of UTF-8 JSON, keys in their order. Raises ValueError for surrogates without their pair and for deep
    nesting."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as err:
        raise ValueError(f"text with half of a surrogate pair (\\u{ord(err.object[err.start]):04x})") from err
    except RecursionError as err:
        raise ValueError("nested too deep") from err


def shown(value: Any, chars: int = SHOWN_CHARS) -> str:
    """A value as Python writes it, cut to `chars` characters: for messages."""
    if isinstance(value, str):
        value = value[: chars + 1]  # the text of a picture has megabytes
    elif isinstance(value, list | dict) and len(value) > chars:
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= chars else f"{text[:chars]}..."


def depth_problem(value: Any) -> str | None:
    """Why a value nests too deep, or None."""
    level = [value]
    for _ in range(DEEPEST):
        level = [one for holder in level for one in _inside(holder)]
        if not level:
            return None
    return f"nested deeper than {DEEPEST} levels"


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {shown(twice)} stands twice in one object")
    return value


def _constant(name: str) -> None:
    raise ValueError(f"not JSON: {name} is no JSON number")


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"number {text[:SHOWN_CHARS]} is beyond a double's range")
    return number


def _int(text: str) -> int:
    if len(text) > 300:  # Python stops at 4300 digits, and a double at 309
        raise ValueError(f"number of {len(text)} digits, expected at most 300")
    return int(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int)
