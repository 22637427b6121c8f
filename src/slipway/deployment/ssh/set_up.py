"""The first-time set-up of a target from here, and its undoing: one login of a person, all else without one.

    pinned host key, own key  ->  slipway-target uploaded  ->  its `set-up` run there  ->  a session as proof

The far side prints and records what it changes (`agent/set_up.py`), and takes it back by that record.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from slipway.config.ssh import SshConfig
from slipway.deployment.ssh.connection import SshConnection, open_connection
from slipway.deployment.ssh.keys import pin, public_key, unpin
from slipway.deployment.ssh.options import personal_options, session_refusal
from slipway.deployment.ssh.target import open_target
from slipway.deployment.target_file import target_file
from slipway.errors import ConfigError, ResourceError

LOGIN_S = 120.0  # a person types a password
_UPLOAD = (
    'umask 077 && f=$(mktemp -t slipway-target.XXXXXX 2> /dev/null || mktemp "$HOME/.slipway-target.XXXXXX")'
    ' && cat > "$f" && echo "$f"'
)
Show = Callable[[str], None]


def set_up(
    params: SshConfig,
    name: str,
    ports: list[int],
    units: Mapping[str, str],
    show: Show,
    *,
    identity: Path | None = None,
    fingerprint: str | None = None,
    trust: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make `params.user` on `params.host` the target `name`; each change goes to `show`. What is done already is left.

    `ports`: of the target's loopback that tunnels may lead to. `units`: systemd units to write there, name -> text.
    `identity`: a private key of the person's for the login with a shell; default: as their ssh is configured.
    `fingerprint`: of the host key, compared by the person. `trust`: whose bundles it takes, `policy`, `keys`, `roots`;
    default: as it was. Returns the probe through the new key. Raises ConfigError
    for a host key that nobody compared and for what the target refuses; ResourceError for what a machine lacks.
    """
    pin(params, fingerprint, show)
    key = public_key(params, show)
    document = {"name": name, "key": key, "ports": ports, "units": dict(units), "trust": dict(trust or {})}
    with _person(params, identity) as connection:
        _run_there(connection, "set-up", document, show)
    with open_target(params) as target:
        probe = target.call("probe", {})
    show(f"a session through {params.identity_file} works: {probe['architecture']}, Python {probe['python']}")
    return probe


def undo(params: SshConfig, show: Show, *, identity: Path | None = None) -> None:
    """Take back all that `set_up` made on the target, its releases included, and here. Errors as of `set_up`."""
    with _person(params, identity) as connection:
        _run_there(connection, "undo", {}, show)
    unpin(params, show)


def _person(params: SshConfig, identity: Path | None) -> Any:
    """A connection with a shell, open for a block."""
    return open_connection(params, personal_options(params, identity, sys.stdin.isatty()), LOGIN_S)


def _run_there(connection: SshConnection, command: str, document: Mapping[str, Any], show: Show) -> None:
    """Run a command of the file on the target, out of a temporary place; its lines go to `show`."""
    host = connection.params.host
    path = _upload(connection)
    words = f"python3 -I {path} --root {connection.params.root} {command}; code=$?; rm -f {path}; exit $code"
    argv, lines, printed = connection.argv(_shell(words)), deque[str](), ""
    with subprocess.Popen(
        argv, text=True, errors="replace", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stderr
        with suppress(BrokenPipeError):  # the far side ended before it read: its exit code and last line say why
            process.stdin.write(json.dumps(document))
        with suppress(BrokenPipeError):
            process.stdin.close()
        for line in process.stderr:
            lines.append(line.rstrip("\n"))
            printed += line
            if len(lines) > 1:  # the last one is kept: it may be the error
                show(f"{host}: {lines.popleft()}")
    last = lines.pop() if lines else ""
    if process.returncode == 0:
        show(f"{host}: {last}" if last else f"{host}: nothing to change")
        return
    if refused := session_refusal(connection.params, printed):
        raise refused
    if process.returncode == 127:
        raise ResourceError(f"python3 on {host}", last, "Python 3.10 or later", "install python3 there")
    next_step = "mend it, then run it again: what was done is left alone"
    raise ConfigError(f"{command} on {host}", last or f"exit code {process.returncode}", "a target", next_step)


def _upload(connection: SshConnection) -> str:
    """Write the file to a temporary place on the target; its path there."""
    done = subprocess.run(connection.argv(_shell(_UPLOAD)), input=target_file(), capture_output=True, check=False)
    *printed, path = done.stdout.decode(errors="replace").strip().splitlines() or [""]
    if done.returncode == 0 and re.fullmatch(r"/[A-Za-z0-9._/-]+", path):
        if printed:  # a copy's protocol would break on it
            subprocess.run(connection.argv(_shell(f"rm -f {path}")), capture_output=True, check=False)
            value, expected = f"prints {printed[0][:100]!r} before any command", "silence where nobody types"
            next_step = "put that into `case $- in *i*) ...;; esac` of its profile (.bashrc, .zshenv, config.fish)"
            raise ConfigError(f"login {connection.params.user} on {connection.params.host}", value, expected, next_step)
        return path
    if refused := session_refusal(connection.params, done.stderr.decode(errors="replace")):
        raise refused
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    words = lines[-1] if lines else path[:200] or "no word of a reason"
    next_step = "mend it there"
    thing = f"upload to {connection.params.host}"
    raise ResourceError(thing, words, "a login that runs `sh`, and room in /tmp or its home", next_step)


def _shell(words: str) -> str:
    """For a login whose own shell is another one."""
    return f"sh -c {shlex.quote(words)}"
