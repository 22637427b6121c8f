"""What a target's unit runs: engine and proxy that ended without anybody's wish are started again, also after a reboot.

What ran is known by `endpoint.json` in the serving release's folder: `slipway stop` removes it, a crash, a kill or a
reboot does not. So what a person stopped stays stopped, and what was interrupted in the midst of a switch is undone or
finished, by the verb `boot` in each case. A start that fails is tried again, after twice the time each time, up to five
minutes, until somebody else changes the target.

Once a week every byte of the serving release is read (the verb `verify`): starts in between trust its seal. One that
differs is said, loses its seal, and is refused by its next start; what serves goes on.

A slow engine is never ended from here: only a process that is gone counts as gone. Where engines are jobs of Slurm the
verb `follow` does what there is to do: Slurm starts them again itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from slipway.agent.bundle.release import SEAL
from slipway.agent.paths import TargetPaths
from slipway.agent.settings import read_settings
from slipway.errors import SlipwayError

EVERY_S, LONGEST_S = 5.0, 300.0
CHECK_EVERY_S = 7 * 86400.0  # between two readings of every byte: 42 GB take some 20 s
ENDPOINT = "endpoint.json"
Show = Callable[[str], None]


class Caller(Protocol):
    """An agent, as far as the watch uses it."""

    def call(self, verb: str, document: dict[str, Any], note: Show) -> dict[str, Any]:
        """The result of a verb."""


class Watch:
    """The watch over one target; `lock` is its lock file, whose time changes with every command."""

    def __init__(self, agent: Caller, lock: Path, show: Show) -> None:
        self._agent, self._lock, self._show = agent, lock, show
        self._failures = 0
        self._last_error = ""
        self._touched = 0.0

    def run(self, ended: threading.Event) -> None:
        """Look until `ended` is set."""
        while not ended.is_set():
            self.look()
            ended.wait(self.pause_s())

    def look(self) -> None:
        """One look, and a boot where one is needed. Errors are shown, each once."""
        try:
            status = self._agent.call("status", {}, self._show)
            if reason := self._reason(status):
                self._show(f"{reason}: starting what the pointer names")
                self._agent.call("boot", {"owner": "watch"}, self._show)
            elif self._is_check_due(status):
                self._agent.call("verify", {"release": status["current"]["name"], "owner": "watch"}, self._show)
            self._failures, self._last_error = 0, ""
        except SlipwayError as err:
            self._failures += 1
            if str(err) != self._last_error:
                self._show(str(err))
            self._last_error = str(err)
        self._touched = self._changed()

    def pause_s(self) -> float:
        """Seconds until the next look: doubled with each failure in a row."""
        return float(min(EVERY_S * 2**self._failures, LONGEST_S))

    def _is_check_due(self, status: dict[str, Any]) -> bool:
        """Whether nobody changes the target and its serving release was last read in full a week ago."""
        if status["lock"] is not None or status["current"] is None:
            return False
        try:
            sealed = (self._lock.parent / "releases" / status["current"]["name"] / SEAL).stat().st_mtime
        except OSError:
            return False  # without a seal its next start reads all of it
        return bool(time.time() - sealed > CHECK_EVERY_S)

    def _reason(self, status: dict[str, Any]) -> str:
        """Why a boot is needed now; empty when it is not."""
        if status["lock"] is not None:
            return ""  # a command is at work; it leaves the target in order or an open journal
        if status["interrupted"]:
            return f"{status['interrupted']['action']} of {status['interrupted']['release']} was interrupted"
        name = status.get("pointer") or (status["current"] or {}).get("name")
        if name is None:
            return ""
        if read_settings(TargetPaths(self._lock.parent)).slurm:  # jobs move by themselves: they are followed
            self._agent.call("follow", {"owner": "watch"}, self._show)
            return ""
        if status["endpoint"] is None:
            recorded = (self._lock.parent / "releases" / name / ENDPOINT).exists()
            again = self._failures > 0 and self._touched == self._changed()
            return f"the engine of {name} is gone" if recorded or again else ""
        return "the proxy is gone" if status["switching"].get("running") is False else ""

    def _changed(self) -> float:
        """When a command last took or gave back the lock."""
        try:
            return self._lock.stat().st_mtime
        except OSError:
            return 0.0
