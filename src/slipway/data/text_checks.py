"""The texts of a row before any template writes them: characters that are none, control tokens, keys named twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from slipway.data.chat_template import ChatTemplate
from slipway.data.problems import RowProblem
from slipway.data.rows import Row

_SHOWN = 60


def check_texts(row: Row, template: ChatTemplate) -> None:
    """Raise RowProblem for a lone surrogate anywhere (`surrogate`), for a special token of the model in the text of a
    system, user or tool message, or an end of turn in an answer (`control`), and for a JSON answer that names a key
    twice (`duplicate_key`)."""
    for text in _strings([row["messages"], row.get("tools")]):
        if not text.isascii() and (at := _surrogate(text)) is not None:
            raise RowProblem("surrogate", f"\\u{ord(text[at]):04x} at character {at + 1} of {_excerpt(text)}")
    ends = [*template.stops.values(), *template.ends.values()]
    for i, message in enumerate(row["messages"]):
        content, answer = message.get("content"), message["role"] == "assistant"
        if not isinstance(content, str):
            continue
        suspect = any(character in content for character in template.openings)  # a model may have hundreds of tokens
        if suspect and (control := _first(content, ends if answer else template.controls)):
            raise RowProblem("control", f"{control} in messages[{i}] ({message['role']})")
        if answer and (key := _repeated_key(content)) is not None:
            raise RowProblem("duplicate_key", f"{key[:_SHOWN]!r} in messages[{i}]")


def _strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _strings(key)
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


def _surrogate(text: str) -> int | None:
    try:
        text.encode()
    except UnicodeEncodeError as err:
        return err.start
    return None


def _excerpt(text: str) -> str:
    return repr(text[:_SHOWN].encode("utf-8", "replace").decode())


def _first(text: str, tokens: Iterable[str]) -> str | None:
    """The first of `tokens` that stands in the text."""
    return next((token for token in tokens if token in text), None)


def _repeated_key(text: str) -> str | None:
    """A key that an object in the JSON text names twice; None when there is none, or the text is no JSON."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.extend(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        return dict(pairs)

    try:
        json.loads(text, object_pairs_hook=note)
    except (ValueError, RecursionError):
        return None
    return repeated[0] if repeated else None
