"""Section deploy.proxy: loopback by default, a key beyond it, containers by digest."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.proxy import ProxyConfig

IMAGE = "docker.io/library/haproxy@sha256:" + "a" * 64


def test_the_default_is_loopback_and_what_is_installed() -> None:
    config = ProxyConfig()
    assert (config.kind, config.host, config.key_file) == ("auto", "127.0.0.1", "")


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::"])
def test_beyond_loopback_a_key_is_needed(host: str) -> None:
    with pytest.raises(ValidationError, match=r"is not loopback: set deploy\.proxy\.key_file"):
        ProxyConfig(host=host)
    assert ProxyConfig(host=host, key_file="/etc/slipway/keys").host == host


@pytest.mark.parametrize("name", ["key_file", "tls_file"])
def test_files_have_whole_paths(name: str) -> None:
    with pytest.raises(ValidationError, match=f"deploy.proxy.{name}=keys is not a whole path"):
        ProxyConfig.model_validate({name: "keys"})
    assert ProxyConfig.model_validate({name: "~/keys"})


@pytest.mark.parametrize("host", ["localhost", "127.0.0", "127.0.0.1:80", ""])
def test_the_host_is_an_address(host: str) -> None:
    with pytest.raises(ValidationError, match="host"):
        ProxyConfig(host=host)


@pytest.mark.parametrize("image", ["haproxy", "haproxy:2.8", IMAGE[:-1]])
@pytest.mark.parametrize("engine", ["docker", "/usr/bin/podman"])
def test_a_container_is_named_by_digest(engine: str, image: str) -> None:
    with pytest.raises(ValidationError, match="name its image by digest"):
        ProxyConfig(command=(engine, "run", image, "haproxy"))
    assert ProxyConfig(command=(engine, "run", IMAGE, "haproxy")).command[2] == IMAGE


def test_a_container_is_run() -> None:
    with pytest.raises(ValidationError, match="give `run` after docker or podman"):
        ProxyConfig(command=("docker", "exec", IMAGE, "haproxy"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", 0),
        ("drain_limit_s", 0),
        ("hold_limit_s", 86401),
        ("retry_after_s", 0),
        ("answer_limit_s", 0),
        ("max_connections", 9),
        ("command", ()),
        ("kind", "nginx"),
        ("prot", 1),
    ],
)
def test_bounds(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        ProxyConfig.model_validate({key: value})
