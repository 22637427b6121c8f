"""A plan's command, config files and environment as one start sees them: placeholders become paths, host and port.

In a container the folders are mounted under `/slipway`; elsewhere they are what they are here. Every start gets a cache
folder of its own and its config files anew: nothing of the bundle is ever written to.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slipway.agent.start_plan import CACHE, CONFIG, fill, usable_cores
from slipway.engines.driver import ServePlan
from slipway.runners.base import Mount
from slipway.system.files import write_atomic

INSIDE = "/slipway"  # where a container sees the folders

FillCache = Callable[[ServePlan, Path, Path], None]


@dataclass(frozen=True)
class Rendered:
    """One start: its command, its environment, and what a container of it mounts."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    mounts: tuple[Mount, ...]


@dataclass(frozen=True)
class Rendering:
    """What a start's placeholders stand for. `folder`: this start's own, here; `in_container`: whether the server sees
    the folders as mounts. Host and port: where it listens. `cache`: where its caches lie; null: in `folder`."""

    plan: ServePlan
    bundle: Path
    model: Path
    folder: Path
    host: str
    port: int
    in_container: bool = False
    cache: Path | None = None

    def render(self) -> Rendered:
        """The start's command; nothing is written."""
        plan = self.plan
        environment = {spec.variable: f"{{cache}}/{spec.path}" for spec in plan.caches} | plan.environment
        return Rendered(
            tuple(self._fill(argument) for argument in plan.argv),
            {name: self._fill(value) for name, value in environment.items()},
            self._mounts() if self.in_container else (),
        )

    def write(self, fill_cache: FillCache | None = None) -> None:
        """Make this start's folder: an empty cache, which `fill_cache(plan, bundle, folder)` may fill, and the config
        files."""
        for name in (CACHE, CONFIG):
            shutil.rmtree(self._folders()[name], ignore_errors=True)
            self._folders()[name].mkdir(parents=True)
        for name, text in self.plan.files.items():
            (self.folder / CONFIG / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.folder / CONFIG / name, self._fill(text))
        if fill_cache:
            fill_cache(self.plan, self.bundle, self._folders()[CACHE])

    def _fill(self, text: str) -> str:
        values = {name: self._seen(name) for name in ("bundle", "model", CACHE)}
        values |= {"host": self.host, "port": str(self.port), "threads": str(usable_cores())}
        return fill(text, values, self.plan.files, self._seen(CONFIG))

    def _seen(self, name: str) -> str:
        return f"{INSIDE}/{name}" if self.in_container else str(self._folders()[name])

    def _folders(self) -> dict[str, Path]:
        return {
            "bundle": self.bundle,
            "model": self.model,
            CONFIG: self.folder / CONFIG,
            CACHE: self.cache or self.folder / CACHE,
        }

    def _mounts(self) -> tuple[Mount, ...]:
        return tuple(Mount(path, f"{INSIDE}/{name}", read_only=name != CACHE) for name, path in self._folders().items())
