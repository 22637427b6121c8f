"""Whether clients of the local target keep one address through a switch, and what stands in the way; looks only."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from slipway.agent.haproxy.listeners import listeners
from slipway.agent.haproxy.process import HAProxyProcess, find_haproxy
from slipway.agent.haproxy.settings import proxy_settings
from slipway.agent.paths import TargetPaths
from slipway.config.deploy import DeployConfig
from slipway.errors import SlipwayError

INSTALL = "`apt-get install haproxy` keeps one address; nothing else needs it"


def endpoint(params: DeployConfig) -> tuple[Literal["ok", "fail"], str, str]:
    """(status, finding, advice). Without HAProxy all is well: the port changes with every switch, and this says so."""
    proxy = params.proxy
    portless = "the port changes with every switch: clients follow current/endpoint.json"
    if proxy.kind == "none":
        return "ok", f"deploy.proxy.kind=none: {portless}", ""
    if proxy.kind == "auto" and find_haproxy(proxy.command) is None:
        return "ok", f"HAProxy is not installed: {portless}", INSTALL
    process = HAProxyProcess(TargetPaths(Path(params.root)).proxy, proxy.command)
    try:
        proxy_settings(proxy.model_dump(mode="json"))
        process.require()
    except SlipwayError as err:
        return "fail", f"{err.thing}: {err.value}", err.next_step
    there = listeners(proxy.host, proxy.port)
    address = f"{proxy.host}:{proxy.port}"
    if others := [str(one) for one in there if one.pid not in process.pids()]:
        return "fail", f"{address} is held by {', '.join(others)}", "stop it, or choose another deploy.proxy.port"
    return "ok", f"HAProxy {'serves' if there else 'is installed and will serve'} at {address}", ""
