"""Section `deploy.ssh`: how a target on another machine is reached: OpenSSH's client, one key, one pinned host key."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from slipway.config.base import Host, InputFile, Port, Section

_ROOT = re.compile(r"[A-Za-z0-9._/-]{1,200}")


def _check_user(name: str) -> str:
    """A login name as POSIX spells one: it must never look like an option of ssh."""
    if not re.fullmatch(r"[a-z_][a-z0-9_.-]{0,31}", name):
        raise PydanticCustomError("user", "a login name: lower-case letters, digits, `_`, `.`, `-`; a letter first")
    return name


def _check_root(path: str) -> str:
    """A folder of the target that needs no quoting in any shell, in authorized_keys or in a unit."""
    parts = path.removeprefix("/").split("/")
    if not _ROOT.fullmatch(path) or any(part in ("", ".", "..") or part.startswith("-") for part in parts):
        raise PydanticCustomError(
            "root", "a path of letters, digits, `.`, `_` and `-`, absolute or below the login's home, without `..`"
        )
    return path


class SshConfig(Section):
    """A target behind ssh. `slipway target set-up` makes the key, pins the host key and writes the far side."""

    host: Host = Field(description="Name or address of the target.")
    user: Annotated[str, AfterValidator(_check_user)] = Field(description="Login on the target.")
    port: Port = Field(22, description="Port of its sshd.")
    root: Annotated[str, AfterValidator(_check_root)] = Field(
        ".slipway-target", description="Folder on the target: releases, pointer, logs; below the login's home."
    )
    identity_file: InputFile = Field("~/.config/slipway/ssh/id_ed25519", description="Private key; used for this only.")
    known_hosts: InputFile = Field(
        "~/.config/slipway/ssh/known_hosts", description="Pinned host keys; no other file is believed."
    )
    connect_timeout_s: int = Field(15, ge=1, le=600, description="Longest wait for the connection, seconds.")
    keepalive_s: int = Field(
        5, ge=1, le=60, description="Seconds between signs of life; without three of them the link counts as cut."
    )
    bandwidth_mb_s: float | None = Field(None, gt=0, description="Limit of a copy, MB/s; null: as fast as it goes.")
