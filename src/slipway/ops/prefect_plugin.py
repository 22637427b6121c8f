"""Makes `prefect deployment run finetune-and-ship` work: Prefect itself wants `<FLOW_NAME>/<DEPLOYMENT_NAME>`.

Prefect loads this module through the entry-point group `prefect.plugins` when `[plugins] enabled = true`, as in
`prefect.toml`. It wraps a client method, so Prefect is pinned and tests/lab/deployment/test_prefect_deployment.py runs the literal command.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from prefect.plugins import SetupResult, register_hook

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.plugins import HookContext


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult:  # noqa: ARG001 - the hook's signature
    """Let deployments be named without their flow, where that name is unique; send no telemetry."""
    from prefect.client.orchestration._deployments.client import DeploymentAsyncClient

    stock = DeploymentAsyncClient.read_deployment_by_name
    if not hasattr(stock, "__wrapped__"):
        DeploymentAsyncClient.read_deployment_by_name = _by_short_name(stock)  # type: ignore[method-assign]
    return SetupResult(env={"DO_NOT_TRACK": "1"})


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

    found = await client.read_deployments(deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])))
    if len(found) == 1:
        return found[0]  # type: ignore[no-any-return]
    if not found:
        raise ValueError(
            f"deployment {name!r} is not on this server. Next: `make up` deploys it; `prefect deployment ls` lists all"
        )
    raise ValueError(f"deployment {name!r} exists for {len(found)} flows. Next: name one as <FLOW_NAME>/{name}")
