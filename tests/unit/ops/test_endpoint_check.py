"""The doctor's look at the address of clients: without HAProxy all is well and said; a taken port is named."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from slipway.config.deploy import DeployConfig
from slipway.config.proxy import ProxyConfig
from slipway.ops.endpoint_check import endpoint


def deploy(tmp_path: Path, **proxy: object) -> DeployConfig:
    return DeployConfig(root=str(tmp_path), proxy=ProxyConfig.model_validate(proxy))


@pytest.fixture
def program(tmp_path: Path) -> str:
    """What answers `-v` as HAProxy 2.8 does."""
    file = tmp_path / "haproxy"
    file.write_text(f"#!{sys.executable}\nprint('HAProxy version 2.8.5-1ubuntu3 2024/04/01')\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize("proxy", [{"kind": "none"}, {"kind": "auto", "command": ["no-such-haproxy"]}])
def test_without_a_proxy_the_changing_port_is_stated(tmp_path: Path, proxy: dict[str, object]) -> None:
    status, finding, advice = endpoint(deploy(tmp_path, **proxy))
    assert status == "ok"
    assert "the port changes with every switch" in finding
    assert advice == "" or "apt-get install haproxy" in advice


def test_haproxy_asked_for_and_absent_is_a_failure(tmp_path: Path) -> None:
    status, finding, advice = endpoint(deploy(tmp_path, kind="haproxy", command=["no-such-haproxy"]))
    assert (status, "no-such-haproxy" in finding, "apt-get install haproxy" in advice) == ("fail", True, True)


def test_a_free_port_is_well_and_a_taken_one_names_its_holder(tmp_path: Path, program: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        status, finding, advice = endpoint(deploy(tmp_path, port=port, command=[program]))
        assert status == "fail"
        assert f"127.0.0.1:{port} is held by pid {os.getpid()}" in finding
        assert "deploy.proxy.port" in advice
    assert endpoint(deploy(tmp_path, port=port, command=[program]))[0] == "ok"


def test_an_old_version_is_named(tmp_path: Path, program: str) -> None:
    Path(program).write_text(f"#!{sys.executable}\nprint('HA-Proxy version 2.2.9')\n")
    status, finding, _ = endpoint(deploy(tmp_path, command=[program]))
    assert status == "fail"
    assert "2.2.9" in finding
