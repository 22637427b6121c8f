"""What the folders and variables around a process must allow before any work: writable folders, usable proxies."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from slipway.errors import ResourceError
from slipway.system.redact import mask

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


def require_writable(setting: str, folder: str) -> Path:
    """The folder that `setting` names, `~` resolved; it need not exist yet.

    Raises ResourceError when this user cannot make or write it: a read-only clone or disk, another user's folder, a
    HOME that is unset or not writable.
    """
    next_step = f"set {setting} to a folder of yours, or run as the owner"
    try:
        path = Path(folder).expanduser().resolve()
    except (RuntimeError, OSError) as err:
        raise ResourceError(setting, f"{folder} ({err})", "a folder that exists or can be made", next_step) from err
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        state = "is not writable" if there.is_dir() else "is no folder"
        raise ResourceError(setting, f"{path}: {there} {state}", "a folder that this user can write", next_step)
    return path


def require_usable_proxies(environment: Mapping[str, str]) -> None:
    """Raise ResourceError for a SOCKS proxy without the package that speaks SOCKS: every HTTP client would fail."""
    for name, value in environment.items():
        if name.lower() in PROXY_VARIABLES and value.lower().startswith("socks") and not _speaks_socks():
            raise ResourceError(
                name,
                mask(value),
                "an HTTP proxy, or the package socksio",
                f"`pip install 'httpx[socks]'`, or `unset {name}`",
            )


def _speaks_socks() -> bool:
    return importlib.util.find_spec("socksio") is not None
