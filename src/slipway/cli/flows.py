"""Start a flow from the CLI: a process of its own, so that the library never imports an orchestrator."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from slipway.errors import ConfigError


def run_flow(conf: Path, overrides: Sequence[str], as_json: bool) -> int:
    """Run finetune-and-ship in the project's root; returns the flow process's exit code."""
    return _flow("finetune_and_ship", ["--conf", str(conf), *_json(as_json), *overrides])


def run_promotion(action: str, conf: Path, verdict: Path | None, as_json: bool) -> int:
    """Run promote or rollback, with its record in Prefect and MLflow; returns the flow process's exit code."""
    return _flow("promote", [action, "--conf", str(conf), *_json(as_json), *([str(verdict)] if verdict else [])])


def _json(as_json: bool) -> list[str]:
    return ["--json"] if as_json else []


def _flow(name: str, arguments: Sequence[str]) -> int:
    if not Path("flows", f"{name}.py").is_file():
        raise ConfigError(
            "working directory",
            Path.cwd(),
            f"the project's root, which holds flows/{name}.py",
            "cd there, then run again",
        )
    process = subprocess.Popen([sys.executable, "-m", f"flows.{name}", *arguments], env=_environment())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the flow got it too, and ends its stage first
            continue


def _environment() -> dict[str, str]:
    """No telemetry, the server that `make up` started on another port, and what the user typed, for the record."""
    environment = {"DO_NOT_TRACK": "1", "SLIPWAY_COMMAND": shlex.join(["slipway", *sys.argv[1:]])}
    if port := os.environ.get("SLIPWAY_PREFECT_PORT"):
        environment["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    return {**environment, **os.environ}
