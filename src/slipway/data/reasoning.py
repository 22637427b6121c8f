"""Blocks of reasoning in texts: `<think>...</think>` and its kin, by name.

An engine that knows a model's marks parts them from the answer, others leave them in the text: figures of an answer
must not depend on which. Short because the rows' labels, the metrics and the judge share it.
"""

from __future__ import annotations

import re

_OPEN, _CLOSE = r"(?:<\w*:?think(?:ing)?>|\[THINK\])", r"(?:</\w*:?think(?:ing)?>|\[/THINK\])"
OPENED = re.compile(rf"\s*{_OPEN}")  # at the beginning of a text
LEFT_OPEN = re.compile(rf"{_OPEN}\s*\Z")  # at the end of a text
CLOSED_EMPTY = re.compile(rf"(?:{_OPEN}\s*)?{_CLOSE}\s*\Z")  # at the end of a text
CLOSED = re.compile(_CLOSE)


def parted(text: str) -> tuple[str, str]:
    """The reasoning that a text begins with, marks included, and what follows it. A block without an end is all
    reasoning; one that the prompt opened has an end alone, before which all is reasoning; a mark further on in a text
    that begins otherwise is text."""
    closed = CLOSED.search(text)
    if OPENED.match(text):
        end = closed.end() if closed else len(text)
    elif closed and not re.search(_OPEN, text[: closed.start()]):
        end = closed.end()
    else:
        return "", text
    return text[:end], text[end:].lstrip()
