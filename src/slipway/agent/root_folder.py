"""The root of a target as a folder of somebody's disk: one of its own, which a set-up makes or an admin made for it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

from slipway.agent.files import remove
from slipway.errors import ConfigError, ResourceError


def require_own(root: Path, record: str) -> None:
    """Raises ConfigError for a folder that has something in it and no file `record`, of a set-up: its undoing would
    remove what is somebody's."""
    if root.is_dir() and (others := sorted(path.name for path in root.iterdir())) and record not in others:
        value, expected = f"has {others[0][:100]} in it, of no set-up", "a folder that is new or empty"
        next_step = f"set deploy.ssh.root to another one, as {root}/slipway"
        raise ConfigError(f"root of the target {root}", value, expected, next_step)


def remove_root(root: Path, record: str, *, made: bool, show: Callable[[str], None]) -> None:
    """All that lies in it, the file `record` last, so that an undoing that fails can be run again; and itself where the
    set-up `made` it: one that an admin made lies in a folder which this login may not write."""
    for path in root.iterdir():
        if path.name != record:
            remove(path)
    (root / record).unlink()
    if made:
        root.rmdir()
    show(f"removed {root}" if made else f"emptied {root}, which was there before")


def not_owned(err: PermissionError, root: Path) -> ResourceError:
    """What the system refused this login in a set-up: the file, and what an admin does about it."""
    name, file = pwd.getpwuid(os.getuid()).pw_name, Path(str(err.filename))
    make = f"choose another deploy.ssh.root, or have an admin run `install -d -m 700 -o {name} {root}`"
    of_root = root.is_relative_to(file) or file.is_relative_to(root)
    next_step = f"{make if of_root else 'mend its owner and mode'}, then set up again"
    value = f"{err.strerror or err}: not for login {name}"
    return ResourceError(f"file {file}", value, "a place that this login may write", next_step)
