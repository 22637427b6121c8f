"""Start a flow from the CLI: this process becomes the flow's, so that the library never imports an orchestrator.

No process stands between the terminal and the flow: signals reach the flow itself, its exit code is the command's, and
killing the command leaves no flow behind it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from slipway.errors import ConfigError
from slipway.ops.services import Services
from slipway.ops.surroundings import require_usable_proxies
from slipway.system.http import is_healthy, loopback_without_proxy
from slipway.system.installed import require

SEND_S = 120.0  # the flow that sends messages takes seconds, of which Prefect's import is most


def run_flow(conf: Path, overrides: Sequence[str], as_json: bool) -> NoReturn:
    """Become finetune-and-ship, in the project's root. Raises ConfigError elsewhere."""
    _become("finetune_and_ship", ["--conf", str(conf), *_json(as_json), *overrides])


def run_promotion(
    action: str, conf: Path, overrides: Sequence[str], verdict: Path | None, as_json: bool, *, approve: str = ""
) -> NoReturn:
    """Become the flow promote or rollback, with its record in Prefect and MLflow; `approve`: why a person accepts an
    inconclusive gate. Raises ConfigError outside the project's root.
    """
    settings = [part for word in overrides for part in ("--set", word)]
    options = ["--conf", str(conf), *settings, *_json(as_json), *(["--approve", approve] if approve else [])]
    # beside the action: argparse takes an optional positional with the first group of positionals or never
    _become("promote", [action, *([str(verdict)] if verdict else []), *options])


def run_watch(conf: Path, overrides: Sequence[str], as_json: bool) -> NoReturn:
    """Become the flow watch. Raises ConfigError outside the project's root."""
    settings = [part for word in overrides for part in ("--set", word)]
    _become("watch", ["--conf", str(conf), *settings, *_json(as_json)])


def send_messages(conf: Path, overrides: Sequence[str]) -> None:
    """Have the flow tell-pending send what is written down, where Prefect answers, and wait for it. Whatever becomes of
    it is not raised: what was not sent is still written down."""
    environment = _environment()
    url = environment.get("PREFECT_API_URL") or f"{Services.here().prefect_url}/api"
    if not Path("flows", "tell_pending.py").is_file() or not is_healthy(f"{url}/health"):
        return
    settings = [part for word in overrides for part in ("--set", word)]
    command = [sys.executable, "-m", "flows.tell_pending", "--conf", str(conf), *settings]
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=SEND_S, check=False
        )


def _json(as_json: bool) -> list[str]:
    return ["--json"] if as_json else []


def _become(name: str, arguments: Sequence[str]) -> NoReturn:
    if not Path("flows", f"{name}.py").is_file():
        raise ConfigError(
            "working directory",
            Path.cwd(),
            f"the project's root, which holds flows/{name}.py",
            "cd there, then run again",
        )
    require("prefect", "mlflow")
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", f"flows.{name}", *arguments]
    os.execve(sys.executable, command, _environment())  # noqa: S606 (no shell is meant)


def _environment() -> dict[str, str]:
    """The user's environment, which wins, over what the flow needs.

    No telemetry, the server that `make up` started on another port and its credentials, UTF-8 text in any locale,
    loopback without a proxy, and what the user typed, for the record.
    """
    require_usable_proxies(os.environ)
    services = Services.here()
    environment = {
        "DO_NOT_TRACK": "1",
        "PYTHONUTF8": "1",
        "SLIPWAY_COMMAND": shlex.join(["slipway", *sys.argv[1:]]),
    }
    if os.environ.get("SLIPWAY_PREFECT_PORT"):
        environment["PREFECT_API_URL"] = f"{services.prefect_url}/api"
    environment |= os.environ
    credentials = services.credentials_for(environment.get("PREFECT_API_URL") or f"{services.prefect_url}/api")
    login = credentials.prefect_environment() if credentials else {}
    return {**login, **environment, **loopback_without_proxy(os.environ)}
