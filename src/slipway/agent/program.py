"""The command line of `slipway-target`, the one file that stands on a target.

    slipway-target --root ROOT session          a session over standard input and output
    slipway-target --root ROOT forced           what SSH_ORIGINAL_COMMAND asks for, if it is allowed
    slipway-target --root ROOT call VERB        one verb: its document as JSON on standard input, its result as JSON
    slipway-target --root ROOT watch            until SIGTERM: starts again what died or was rebooted (agent/watch.py)
    slipway-target --root ROOT set-up | undo    of this login as a target; `set-up` reads its document as JSON
    slipway-target watch-log MAX_BYTES EVERY_S  bounds a log (agent/rotation.py)

Errors go to standard error in words, and with their exit code.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway.agent import forced_command, set_up
from slipway.agent.agent import Agent
from slipway.agent.session import serve_standard_streams
from slipway.agent.watch import Watch
from slipway.errors import ConfigError, SlipwayError

USAGE = "slipway-target --root ROOT session | forced | call VERB | watch | set-up | undo"


def main(arguments: list[str]) -> int:
    """Run one command; its exit code."""
    try:
        return _run(arguments)
    except SlipwayError as err:
        sys.stderr.write(f"{err}\n")
        return err.exit_code


def _run(arguments: list[str]) -> int:
    if len(arguments) < 3 or arguments[0] != "--root":
        raise _usage(arguments)
    root, command, rest = Path(arguments[1]), arguments[2], arguments[3:]
    commands: dict[tuple[str, int], Callable[[], int]] = {
        ("session", 0): lambda: _session(root),
        ("forced", 0): lambda: forced_command.run(root, lambda: _session(root)),
        ("call", 1): lambda: _call(root, rest[0]),
        ("watch", 0): lambda: _watch(root),
        ("set-up", 0): lambda: _print(set_up.set_up(root, _document(), _show)),
        ("undo", 0): lambda: _print(set_up.undo(root, _show, _stop)),
    }
    if (command, len(rest)) not in commands:
        raise _usage(arguments)
    return commands[command, len(rest)]()


def _session(root: Path) -> int:
    return serve_standard_streams(Agent(root))


def _watch(root: Path) -> int:
    ended = threading.Event()
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, lambda *_: ended.set())
    agent = Agent(root)
    Watch(agent, agent.paths.lock, _show).run(ended)
    return 0


def _call(root: Path, verb: str) -> int:
    agent = Agent(root)
    try:
        return _print(agent.call(verb, _document(), _show))
    finally:
        agent.close()


def _stop(root: Path) -> None:
    agent = Agent(root)
    try:
        agent.call("stop", {}, _show)
    finally:
        agent.close()


def _document() -> dict[str, Any]:
    """The JSON object on standard input; empty when there is nothing on it, as with a unit's."""
    text = "" if sys.stdin.isatty() else sys.stdin.read()
    try:
        document = json.loads(text or "{}")
    except ValueError as err:
        raise ConfigError("standard input", str(err), "one JSON object", USAGE) from err
    if not isinstance(document, dict):
        raise ConfigError("standard input", type(document).__name__, "one JSON object", USAGE)
    return document


def _show(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _print(document: dict[str, Any]) -> int:
    sys.stdout.write(json.dumps(document) + "\n")
    return 0


def _usage(arguments: list[str]) -> ConfigError:
    return ConfigError("arguments of slipway-target", " ".join(arguments)[:200] or "none", USAGE, "use one of those")
