"""The name that was probably meant. Short because every room that reads names uses it, from the config upwards."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is most like `name`, None when none comes near."""
    return next(iter(difflib.get_close_matches(name, sorted(names), 1)), None)


def did_you_mean(name: str, names: Iterable[str], otherwise: str) -> str:
    """The next step of an error about an unknown name: "did you mean X?", or `otherwise` when nothing comes near."""
    near = nearest(name, names)
    return f"did you mean {near}?" if near else otherwise
