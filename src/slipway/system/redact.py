"""Secrets out of anything that is logged: command lines, URIs, configs."""

from __future__ import annotations

import re

_URL_USER = re.compile(r"(?<=://)[^/@\s'\"]+(?=@)")
_KEY = r"[\w.-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key)"
_ASSIGNED = re.compile(rf"({_KEY}\s*[=:]\s*)(?!null\b)[^\s,'\"]+", re.IGNORECASE)
_OPTION = re.compile(rf"(--{_KEY}\s+)(?!-)\S+", re.IGNORECASE)


def mask(text: str) -> str:
    """`text` with URL credentials and the values of keys that name a password, secret, token or key replaced by `***`."""
    text = _URL_USER.sub("***", text)
    return _OPTION.sub(r"\1***", _ASSIGNED.sub(r"\1***", text))
