"""What the environment in a container image's config states. Short because the agent, which is the standard library,
and whoever reads a registry ask the same."""

from __future__ import annotations

import re


def cuda_version(environment: object) -> str:
    """The value of CUDA_VERSION in the environment of an image's config, a list of NAME=VALUE; empty without one."""
    lines = environment if isinstance(environment, list) else []
    values = dict(str(line).split("=", 1) for line in lines if "=" in str(line))
    match = re.match(r"\d+(\.\d+){0,3}", values.get("CUDA_VERSION", ""))
    return match[0] if match else ""
