"""Section `deploy.proxy`: the one address that clients of a target use."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from slipway.config.base import Port, Section

_BY_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


def _ip_address(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise PydanticCustomError("host", "an IP address, such as 127.0.0.1") from None


Address = Annotated[str, AfterValidator(_ip_address)]


class ProxyConfig(Section):
    """HAProxy in front of a target's engines. Files are files of the target."""

    kind: Literal["auto", "haproxy", "none"] = Field(
        "auto",
        description="`auto`: HAProxy where it is installed; `none`: clients follow the port in current/endpoint.json.",
    )
    host: Address = Field("127.0.0.1", description="IP address that clients connect to; not loopback: a key is needed.")
    port: Port = Field(8090, description="Port that clients connect to, the same through every switch.")
    key_file: str = Field("", description="File of API keys, one a line, mode 600; empty: loopback only, no key.")
    tls_file: str = Field("", description="PEM file of certificate chain and private key, mode 600; empty: plain HTTP.")
    drain_limit_s: float = Field(
        600,
        gt=0,
        le=86400,
        description="Longest wait for an old engine's answers; what is left then is cut and counted.",
    )
    hold_limit_s: float = Field(
        900,
        gt=0,
        le=86400,
        description="Longest that a request waits while memory holds one engine only; then 503 with Retry-After.",
    )
    retry_after_s: int = Field(30, ge=1, le=3600, description="Retry-After of a 503, seconds.")
    answer_limit_s: float = Field(3600, gt=0, le=86400, description="Longest silence within an answer, seconds.")
    max_connections: int = Field(1000, ge=10, le=100_000, description="Clients at once; more wait to be accepted.")
    command: tuple[str, ...] = Field(
        ("haproxy",),
        min_length=1,
        description="What starts HAProxy; a container: docker or podman, its image by digest; {folder}: its folder.",
    )

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        for name, file in (("key_file", self.key_file), ("tls_file", self.tls_file)):
            if file and not file.startswith(("/", "~/")):  # read at a boot too, in no folder of a project
                raise ValueError(f"deploy.proxy.{name}={file} is not a whole path: begin it with / or ~/")
        if not self.key_file and not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError(
                f"deploy.proxy.host={self.host} is not loopback: set deploy.proxy.key_file, keys one a line"
            )
        container = self.command[0].rpartition("/")[2] in ("docker", "podman")
        if container and self.command[1:2] != ("run",):
            raise ValueError(
                "deploy.proxy.command runs a container: give `run` after docker or podman, without --detach"
            )
        if container and not any(_BY_DIGEST.fullmatch(part) for part in self.command):
            raise ValueError("deploy.proxy.command runs a container: name its image by digest (NAME@sha256:...)")
        return self
