"""The key that an engine asks its callers for: made where the engine starts, in a file that its owner alone may read.

What is handed on is the file's path, which is no secret; whoever asks the engine reads it. The file goes with its
engine: one that ended, or that a younger attempt replaced, leaves nothing to ask it with.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from slipway.agent.records import read_text
from slipway.errors import StateError

_NEXT = "`slipway stop TARGET`, then `slipway start TARGET`: an engine that starts makes a new one"


def read_key(file: str) -> str:
    """The key in this file; empty for an engine that has none (no file named).

    Raises StateError, which never shows a key: the file is gone, others than its owner may read it, or it holds no key.
    """
    if not file:
        return ""
    thing = f"key of an engine: {file}"
    text = read_text(Path(file), "key of an engine", _NEXT).strip()
    mode = Path(file).stat().st_mode
    if mode & 0o077:
        raise StateError(thing, f"mode {stat.S_IMODE(mode):04o}", "a file that only its owner may read", _NEXT)
    if not re.fullmatch("[0-9a-f]{32,128}", text):
        raise StateError(thing, f"{len(text)} characters", "a key of hexadecimal digits", _NEXT)
    return text
