"""What a machine's GPUs were measured to give, written into its row of `conf/targets/`; committed like the row."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slipway.config.deploy import DeployConfig
from slipway.config.load import load_config
from slipway.config.target import TargetConfig
from slipway.deployment.target import session
from slipway.errors import ConfigError, StateError
from slipway.ops.preflight.machine_checks import gpu as gpu_row
from slipway.planning.fit import GB, gpu_room
from slipway.system.files import write_atomic

KEY = "usable_gb"


@dataclass(frozen=True)
class Probed:
    """A machine as it was found: GB that a program gets of one of its GPUs (the least of them), why no more was taken,
    what the row gave before, and all memory there."""

    target: str
    usable_gb: float
    stopped: str
    before_gb: float
    memory: dict[str, int]
    file: str


def probe_machine(conf: Path, name: str, overrides: Sequence[str]) -> Probed:
    """Measure the machine of the row `name` of conf/targets and write `usable_gb` into the row. It is reached through
    the row of conf/deploy of the same name; without one it is this machine.

    Raises ConfigError for a row without a GPU and for a machine that is another than the row says, StateError while an
    engine serves there, ResourceError for one that does not answer.
    """
    row, deploy = _rows(conf, name, overrides)
    before = gpu_room(row)
    if before is None:
        raise ConfigError(f"target {name}", "no GPU", "a row of conf/targets with gpu_memory_gb", "name another")
    with session(deploy) as target:
        answer = target.call("probe", {"images": []})
        machine = gpu_row(name, answer, row)
        if machine.status != "ok":
            raise ConfigError(f"machine of target {name}", machine.finding, "the row's GPU", machine.advice)
        serving = target.call("status", {})
        if serving.get("url") and serving.get("healthy"):
            raise StateError(
                f"target {name}",
                "an engine serves there",
                "a machine that has its memory free",
                f"`slipway stop {name}`",
            )
        floor = int((row.guard.available_gb if row.guard else 0) * GB)
        measured = target.call("gpu_limits", {"unified": row.unified_memory, "floor": floor})["gpus"]
    least = min(measured[: row.gpus], key=lambda one: int(one["bytes"]))
    usable = int(least["bytes"] / GB * 10) / 10
    if usable <= 0:
        raise StateError(f"memory of target {name}", "none was given", "a GPU that is free", "`nvidia-smi` there")
    file = conf / "targets" / f"{name}.yaml"
    write_atomic(file, written(file.read_text(encoding="utf-8"), usable))
    return Probed(name, usable, str(least["stopped"]), before / GB, dict(answer["memory"]), str(file))


def written(text: str, usable_gb: float) -> str:
    """The text of a row with `usable_gb`; its other lines stay. Raises ConfigError where a line of its own is not
    enough."""
    line = f"{KEY}: {usable_gb:g}  # measured by `slipway probe` on {time.strftime('%Y-%m-%d', time.gmtime())}"
    lines = [one for one in text.splitlines() if not re.match(rf"{KEY}\s*:", one)]
    at = next((i + 1 for i, one in enumerate(lines) if re.match(r"reserve_gb\s*:", one)), len(lines))
    changed = "\n".join([*lines[:at], line, *lines[at:]]) + "\n"
    if _values(changed) != {**_values(text), KEY: usable_gb}:
        raise ConfigError("row of conf/targets", "not one key a line", "one key a line", f"write `{line}` by hand")
    return changed


def _values(text: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return dict(document) if isinstance(document, dict) else {}


def _rows(conf: Path, name: str, overrides: Sequence[str]) -> tuple[TargetConfig, DeployConfig]:
    if not (conf / "targets" / f"{name}.yaml").is_file():
        names = ", ".join(sorted(file.stem for file in (conf / "targets").glob("*.yaml"))) or "none"
        raise ConfigError("row of conf/targets", name, f"one of {names}", "choose one of them")
    reached = [f"layers.deploy=deploy/{name}"] if (conf / "deploy" / f"{name}.yaml").is_file() else []
    config = load_config(conf, [f"layers.target=targets/{name}", *reached, *overrides])
    return config.target, config.deploy
