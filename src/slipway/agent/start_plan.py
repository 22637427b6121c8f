"""How a release's engine is started: `start.json`, the bundle's serve plan and where its model lies.

    {"plan": {...serve.json of the bundle...}, "model": "/path of the checkpoint" | null, "measured_start_s": 8.1}

In `argv`, `files` and `environment` placeholders stand for what is known at a start alone: `{bundle}`, `{model}`,
`{cache}`, `{host}`, `{port}`, `{threads}` (`engines/driver.py` derives them). `{bundle}/NAME` of a config file stands
for the file as rendered at the start.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.agent.records import Fields, is_present, read_json
from slipway.errors import StateError

FILE = "start.json"
PLACEHOLDERS = ("bundle", "model", "cache", "host", "port", "threads")
CACHE, CONFIG = "cache", "config"
KEY_VARIABLES = ("LLAMA_API_KEY", "VLLM_API_KEY")  # for a plan that does not say which engine it starts
MEASURED_MARGIN = 3.0  # a start may take so many times what it took when it was measured
_MEND = "promote the engine again: that writes it"


@dataclass(frozen=True)
class StartPlan:
    """One engine's start, with placeholders. `caches`: (path below the cache folder, environment variable) each.
    Seconds: `start_s` a cold start may take, `stop_s` from SIGTERM to SIGKILL, `measured_start_s` the longest that was
    measured, 0 unknown. `memory_bytes`: planned for weights, caches and the rest, 0 unknown. `image`: a container image
    by digest; empty: a process of the machine. `key_variables`: of the environment, which the engine reads the key of
    its callers from; empty: it knows none. `tls_options`: that name the files of its certificate and of its private
    key; empty: it speaks no TLS."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    files: Mapping[str, str]
    caches: tuple[tuple[str, str], ...]
    alias: str
    health: str
    image: str
    start_s: float
    stop_s: float
    measured_start_s: float
    model: str
    memory_bytes: float = 0.0
    key_variables: tuple[str, ...] = KEY_VARIABLES
    tls_options: tuple[str, ...] = ()

    def limit_s(self, asked_s: float | None) -> float:
        """Seconds until the engine must be healthy: the target's own limit where it has one, else the plan's for a cold
        start, or the longest measured start with its margin where that is longer."""
        return asked_s if asked_s is not None else max(self.start_s, MEASURED_MARGIN * self.measured_start_s)


def parse_start(document: Mapping[str, Any], thing: str) -> StartPlan:
    """A start out of its document. Raises StateError naming the key that does not fit."""
    fields = Fields(document, thing, _MEND)
    plan = Fields(fields.document("plan"), thing, _MEND)
    caches = [Fields(row, f"{thing}, caches", _MEND) for row in plan.objects("caches", ())]
    argv = plan.texts("argv")
    if not argv:
        raise StateError(thing, "argv: empty", "a command", _MEND)
    tls_options = plan.texts("tls_options", ())
    if len(tls_options) not in (0, 2):
        raise StateError(thing, f"tls_options: {len(tls_options)}", "none, or of certificate and private key", _MEND)
    return StartPlan(
        argv=argv,
        environment=plan.text_map("environment", {}),
        files={_inside(name, thing): text for name, text in plan.text_map("files", {}).items()},
        caches=tuple((_inside(row.text("path"), thing), row.text("variable")) for row in caches),
        alias=plan.text("alias", "slipway"),
        health=plan.text("health", "/health", pattern=r"/[!-~]*"),
        image=plan.text("image", ""),
        start_s=plan.number("start_s", 120.0),
        stop_s=plan.number("stop_s", 10.0),
        measured_start_s=fields.number("measured_start_s", 0.0),
        model=fields.text("model", ""),
        memory_bytes=_sum(plan.document("memory", {})),
        key_variables=plan.texts("key_variables", KEY_VARIABLES),
        tls_options=tls_options,
    )


def read_start(release: Path) -> StartPlan:
    """How the engine of the release in this folder starts. Raises StateError when its plan is damaged, or was written
    by a version of before the agent."""
    file, what = release / FILE, f"start of release {release.name}"
    if not is_present(file):
        next_step = "`slipway start TARGET` or a rollback from where it was promoted writes it"
        raise StateError(f"{what}: {file}", "absent: released by an earlier version", "a start plan", next_step)
    return parse_start(read_json(file, what, _MEND), f"{what}: {file}")


def fill(text: str, values: Mapping[str, str], files: Iterable[str], config: str) -> str:
    """`text` with its placeholders replaced; `{bundle}/NAME` of each of `files` leads into the folder `config`."""
    for name in files:
        text = text.replace(f"{{bundle}}/{name}", f"{config}/{name}")
    for name in PLACEHOLDERS:
        text = text.replace(f"{{{name}}}", values[name])
    return text


def usable_cores() -> int:
    """Cores that this process may use: affinity and cgroup cpusets count, hyperthreads do too."""
    return len(os.sched_getaffinity(0))


def _sum(parts: Mapping[str, Any]) -> float:
    """Of the numbers among these values."""
    return float(sum(part for part in parts.values() if isinstance(part, (int, float)) and part > 0))


def _inside(name: str, thing: str) -> str:
    """A path below its folder. Raises StateError for one that leads out of it."""
    if not name or name.startswith("/") or ".." in Path(name).parts:
        raise StateError(thing, f"path {name}", "a path below its folder", _MEND)
    return name
