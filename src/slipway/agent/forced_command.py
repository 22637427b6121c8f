"""What a key of an orchestrator may do on a target: a session of the agent, and files into its own `incoming/`.

sshd runs this instead of whatever the client asked for, which is in SSH_ORIGINAL_COMMAND. Nothing of that text reaches
a shell: a copy's command line is taken apart, each option is one of a short list, and it is put together again. A
receiving rsync without `-l` makes no symlinks, and without `--relative` it makes no folders, so that what arrives are
plain files directly in `incoming/`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from slipway.agent.paths import TargetPaths
from slipway.agent.records import shown
from slipway.errors import ConfigError, ResourceError

ORIGINAL = "SSH_ORIGINAL_COMMAND"
SESSION = "session"
LONGEST = 1000  # characters of a command
RECEIVE = ["rsync", "--server"]
WHERE = [".", "incoming/"]
# r, t, v, W change nothing outside of the folder; after `e.` come letters for what the client's version can do
_SHORT = re.compile(r"-[rtvW]{0,4}e[0-9]{0,2}\.[A-Za-z]{0,24}")
_LONG = re.compile(r"--(?:append|timeout=[0-9]{1,4}|bwlimit=[0-9]{1,9})")


def copy_arguments(original: str) -> list[str] | None:
    """The rsync that a client asks for, with the options that are allowed; None when it asks for a session.

    Raises ConfigError for everything else: another program, another folder, an option that reads, deletes or follows.
    """
    try:
        words = shlex.split(original) if len(original) <= LONGEST else []
    except ValueError:
        words = []
    if words == [SESSION]:
        return None
    middle = words[len(RECEIVE) : -len(WHERE)]
    if words[: len(RECEIVE)] != RECEIVE or words[-len(WHERE) :] != WHERE or len(words) < 5:
        raise _refused(original)
    for word in middle:
        if not (_SHORT.fullmatch(word) or _LONG.fullmatch(word)):
            raise _refused(original)
    return [*RECEIVE, *middle, *WHERE]


def run(root: Path, session: Callable[[], int]) -> int:
    """Do what SSH_ORIGINAL_COMMAND asks for: call `session`, or become rsync, which does not return.

    Raises ConfigError for a command that is not allowed, ResourceError when `incoming/` cannot be made or rsync is not
    installed.
    """
    original = os.environ.get(ORIGINAL, "")
    arguments = copy_arguments(original)
    if arguments is None:
        return session()
    paths = TargetPaths(root)
    try:
        paths.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        if paths.incoming.is_symlink():
            raise ConfigError(f"folder {paths.incoming}", "a symlink", "a folder of the target's own", "remove it")
        os.umask(0o077)
        os.chdir(paths.root)
        os.execvp(arguments[0], arguments)  # noqa: S606 (no shell: that is the point)
    except FileNotFoundError as err:
        raise ResourceError("rsync on the target", "not installed", "rsync", "install rsync there") from err
    except OSError as err:
        raise ResourceError(f"folder {paths.incoming}", str(err), "a folder to copy into", "mend it there") from err


def _refused(original: str) -> ConfigError:
    asked = shown(original) if original.strip() else "a login shell"
    return ConfigError(
        "command over ssh",
        asked,
        f"`{SESSION}`, or rsync into incoming/",
        "this key is for Slipway only: log in with a key of your own; when Slipway asked for it, `slipway target "
        "set-up` brings the target to its version",
    )
