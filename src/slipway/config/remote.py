"""Section `remote`: the machine that stages run on which read or write weights. Short because a section is one file."""

from __future__ import annotations

import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from slipway.config.base import Section, check_authority


def _check_address(address: str | None) -> str | None:
    """`ssh://user@host[:port]`, without a password."""
    if address is not None:
        user, _, authority = address.removeprefix("ssh://").rpartition("@")
        if not address.startswith("ssh://") or ":" in user or "/" in authority:
            raise PydanticCustomError("remote", "ssh:// and [USER@]HOST[:PORT], a login by key, no password")
        check_authority(authority)
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|", user) or (urlsplit(address).hostname or "-")[0] == "-":
            raise PydanticCustomError("remote", "a user and a host that ssh does not take for options")
    return address


def _check_path(path: str | None) -> str | None:
    """An absolute path that needs no quoting in a shell."""
    if path is not None and not re.fullmatch(r"(?:/[A-Za-z0-9_.][A-Za-z0-9._+-]*){2,30}", path):
        raise PydanticCustomError("path", "an absolute path of letters, digits, `.`, `_`, `+` and `-`, two names long")
    return path


class RemoteConfig(Section):
    """Where training, merge, quantization, engine, streamed reference and evaluation run, with a store of its own
    there. Nothing of it is in a key: where a stage runs does not decide what it makes."""

    host: Annotated[str | None, AfterValidator(_check_address)] = Field(
        None, description="`ssh://user@host[:port]`, logged in to as ~/.ssh/config says; null: this machine."
    )
    folder: Annotated[str | None, AfterValidator(_check_path)] = Field(
        None, description="Folder there: store, caches, our code. Absolute, on a local disk."
    )
    python: Annotated[str | None, AfterValidator(_check_path)] = Field(
        None,
        description="Python there that has the packages of requirements.lock.",
    )
    keep_mb: float = Field(64, ge=1, description="Larger files of artifacts stay there; the others are fetched, MB.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.host and not (self.folder and self.python):
            raise ValueError("remote.host goes with remote.folder and remote.python")
        return self
