"""The OpenAI-compatible endpoint that a command asks: the one that was named, else what the local target serves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.errors import ConfigError

if TYPE_CHECKING:
    from slipway.config.load import Config

Endpoint = tuple[str, str, str | None]  # URL, model, key


def served_endpoint(
    config: Config, url: str | None, model: str | None, timeout_s: float, key_variable: str | None
) -> Endpoint:
    """The endpoint that was named, else the one that the local target's record names; its only model where none is
    named. Raises ConfigError for a variable that is not set, where nothing serves, and for several models."""
    from slipway.evaluation.bench import endpoint_base, only_model

    key = os.environ.get(key_variable) if key_variable else None
    if key_variable and not key:
        raise ConfigError("--key-variable", key_variable, "a variable that is set", f"export {key_variable}=...")
    base = endpoint_base(url or _recorded(config))
    return base, model or only_model(base, timeout_s, key), key


def _recorded(config: Config) -> str:
    from slipway.system.json_files import is_present, read_json

    record = Path(config.deploy.root) / "current" / "endpoint.json"
    if not is_present(record):
        raise ConfigError(
            "endpoint", f"nothing serves at {config.deploy.root}", "a served model", "--url, or `slipway run`"
        )
    return str(read_json(record, f"endpoint {record}", "`slipway start`").get("url", ""))
