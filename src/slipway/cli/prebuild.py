"""Build the embedded engine ahead of the first run, so that neither a run nor a test waits for a compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from slipway.cli.progress import Bars, Line, describe
from slipway.config.load import Config
from slipway.engines.llamacpp.build import ensure_build
from slipway.system.progress import Progress
from slipway.system.throttle import Throttle

LOG_EVERY_S = 20.0


class Shown(Progress):
    """Progress for a person who waits: a live line on a terminal, a line of text now and then elsewhere."""

    def __init__(self, line: Line, bars: Bars) -> None:
        super().__init__()
        self._line, self._bars, self._throttle = line, bars, Throttle(LOG_EVERY_S)

    def _write(self, **event: Any) -> None:
        self._line.event(event)
        if not self._bars.live and (event["event"] == "note" or self._throttle.due()):
            self._bars.console.print(describe(event), highlight=False)


def prebuild(config: Config) -> str:
    """The id of the engine build in the cache, made when it is not there yet. Raises what `ensure_build` raises."""
    bars = Bars(Console(stderr=True))
    with bars.open(), bars.stage("engine") as line:
        return ensure_build(config.engine, Path(config.store.cache).expanduser(), Shown(line, bars)).id
