"""Makes `prefect deployment run finetune-and-ship` work: Prefect itself wants `<FLOW_NAME>/<DEPLOYMENT_NAME>`.

Prefect loads this module through the entry-point group `prefect.plugins` when `[plugins] enabled = true`, as in
`prefect.toml`. It wraps a client method, so Prefect is pinned and tests/lab/deployment/test_prefect_deployment.py runs
the literal command.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.plugins import SetupResult, register_hook

from slipway.errors import SlipwayError
from slipway.ops.services import Services, is_root
from slipway.system.http import loopback_without_proxy

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.plugins import HookContext

# The commands that talk to a server; `prefect version` and `prefect config` work anywhere.
SERVER_COMMANDS = (
    "artifact",
    "automation",
    "deploy",
    "deployment",
    "flow",
    "flow-run",
    "task-run",
    "work-pool",
    "worker",
)


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult:
    """Log in to this machine's own server, without a proxy; let deployments be named without their flow, where that
    name is unique; send no telemetry. What the user has set in the environment stays."""
    _require_server(ctx.api_url)
    from prefect.client.orchestration._deployments.client import DeploymentAsyncClient

    stock = DeploymentAsyncClient.read_deployment_by_name
    if not hasattr(stock, "__wrapped__"):
        DeploymentAsyncClient.read_deployment_by_name = _by_short_name(stock)  # type: ignore[method-assign]
    return SetupResult(env={"DO_NOT_TRACK": "1", **loopback_without_proxy(os.environ), **_login(ctx.api_url or "")})


def _require_server(api_url: str | None) -> None:
    """End `prefect deployment run ...` and its like in one line where nothing names a server.

    That is so in any folder but the project's root, where `prefect.toml` does. Prefect would start a server of its own,
    that knows no deployment, and fail half a minute later.
    """
    words = sys.argv[1:]
    # Under `python -m`, argv[0] is still "-m" while the package is imported.
    is_command = Path(sys.argv[0]).name == "prefect" or (
        sys.argv[0] == "-m" and sys.orig_argv[1:3] == ["-m", "prefect"]
    )
    if api_url or is_root(Path.cwd()) or not is_command or not words or words[0] not in SERVER_COMMANDS:
        return
    clone = Path(__file__).resolve().parents[3]
    place = f"cd {shlex.quote(str(clone))}" if is_root(clone) else "cd to the project's root"
    raise SystemExit(
        f"prefect {words[0]}: no server is named in {Path.cwd()}; expected the project's root, which holds "
        "prefect.toml. "
        f"Next: `{place}`, then run again, or export PREFECT_API_URL"
    )


def _login(api_url: str) -> dict[str, str]:
    """The credentials for this API address; none for another server, and none outside a project's root."""
    if "PREFECT_API_AUTH_STRING" in os.environ or not is_root(Path.cwd()):
        return {}
    try:
        credentials = Services.here().credentials_for(api_url)
    except SlipwayError as err:
        raise SystemExit(str(err)) from err
    return credentials.prefect_environment() if credentials else {}


def _by_short_name(stock: Any) -> Any:
    @functools.wraps(stock)
    async def read_deployment_by_name(self: Any, name: str) -> DeploymentResponse:
        if "/" in name:
            return await stock(self, name)  # type: ignore[no-any-return]
        return await _only(self, name)

    return read_deployment_by_name


async def _only(client: Any, name: str) -> DeploymentResponse:
    """The one deployment called `name`, of whichever flow. Raises ValueError when there is none or more than one."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    same_name = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
    deployments = await client.read_deployments(deployment_filter=same_name)
    if len(deployments) == 1:
        return deployments[0]  # type: ignore[no-any-return]
    if not deployments:
        raise ValueError(
            f"deployment {name!r} is not on this server. Next: `make up` deploys it; `prefect deployment ls` lists all"
        )
    raise ValueError(f"deployment {name!r} exists for {len(deployments)} flows. Next: name one as <FLOW_NAME>/{name}")
