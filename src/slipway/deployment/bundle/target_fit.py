"""What an engine needs against what its target's probe says, before a byte moves: GPU, image, memory.

Architecture and disk are `delivery`'s and the transport's. What the probe cannot say (a driver that does not answer, no
planned memory) refuses nothing and is noted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slipway.config.deploy import DeployConfig
from slipway.config.target import TargetConfig
from slipway.engines.driver import ServePlan
from slipway.errors import ConfigError, ResourceError
from slipway.planning.fit import fit

Probe = Mapping[str, Any]


def require_fit(
    plan: ServePlan,
    row: TargetConfig,
    architecture: str,
    probe: Probe,
    params: DeployConfig,
    note: Callable[[str], None],
) -> None:
    """Raise ConfigError for a GPU of another capability than `row`, for which the engine was made, and for an image
    that cannot run there; ResourceError for memory that the target has not, or, for `deploy.way=beside`, has not
    free."""
    gpus = list(probe.get("gpus") or ())
    _require_gpu(row, gpus, plan, params.target)
    if plan.image:
        _require_image(plan.image, architecture, probe.get("containers"), params.target, note)
    _require_memory(plan, gpus, probe.get("memory") or {}, params, note)


def _require_gpu(row: TargetConfig, gpus: Sequence[Mapping[str, str]], plan: ServePlan, target: str) -> None:
    """The format that the plan computes in is one of the row's GPU: another capability has other kernels."""
    if row.gpus == 0 or row.compute_capability is None:
        return
    again = f"run the stages from quantize on for that machine (layers.serving), or promote where {row.name} is"
    expected = (
        f"{row.gpus} of {row.compute_capability}, for which it computes {plan.weights} weights in {plan.computes}"
    )
    if not gpus:
        raise ConfigError(f"GPU of target {target}", "none that a driver lists", expected, again)
    there = sorted({f"sm_{gpu['compute_cap'].replace('.', '')}" for gpu in gpus})
    if there != [row.compute_capability] or len(gpus) < row.gpus:
        raise ConfigError(f"GPU of target {target}", f"{len(gpus)} of {', '.join(there)}", expected, again)


def _require_image(
    image: str, architecture: str, containers: Mapping[str, Any] | None, target: str, note: Callable[[str], None]
) -> None:
    if containers is None:
        expected = "docker or podman, which answers"
        next_step = "install one of them there, or build an engine that is a process"
        raise ConfigError(f"containers of target {target}", f"none for image {image}", expected, next_step)
    present = (containers.get("images") or {}).get(image)
    program = containers["program"]
    if present is None:
        note(f"image {image} is not on {target}: its first start pulls it; `{program} pull {image}` there before that")
        return
    if present["architecture"] != architecture:
        raise ConfigError(
            f"image {image} on target {target}",
            f"for {present['architecture']}",
            f"for {architecture}",
            f"`{program} image rm {image}` there, then `{program} pull --platform linux/{architecture} {image}`",
        )


def _require_memory(
    plan: ServePlan,
    gpus: Sequence[Mapping[str, str]],
    memory: Mapping[str, int],
    params: DeployConfig,
    note: Callable[[str], None],
) -> None:
    """Planned bytes against all there is less the reserve; beside an engine that serves against what is free now."""
    planned = sum(part for part in plan.memory.values() if part > 0)
    if planned <= 0:
        return None
    reserve = params.reserve_gb * 1e9 if gpus else 0.0  # it is the driver's and the desktop's of a GPU machine
    own = [re.fullmatch(r"(\d+) MiB", gpu.get("memory.total", "")) for gpu in gpus]
    if own and all(own):
        total, kind = sum(int(match[1]) << 20 for match in own if match), "GPU memory"
    else:  # a GPU that shares the CPU's, or none
        total, kind = int(memory.get("total", -1)), "memory"
    if total < 0:
        return note(f"{params.target} does not say how much memory it has: {planned / 1e9:.1f} GB are planned")
    needed = f"{planned / 1e9:.1f} GB planned for the engine and {reserve / 1e9:g} kept free (deploy.reserve_gb)"
    smaller = "plan a smaller engine (engine.slots, engine.context, another format), or another target"
    if not fit(planned + reserve, total).fits:
        raise ResourceError(f"{kind} of target {params.target}", f"{total / 1e9:.1f} GB", needed, smaller)
    available, free = int(memory.get("available", -1)), int(memory.get("free", -1))
    if params.way != "beside" or kind != "memory" or available < 0:
        return None
    value = f"{available / 1e9:.1f} GB available (MemAvailable, of which {free / 1e9:.1f} MemFree)"
    if not fit(planned + reserve, available).fits:
        next_step = f"deploy.way=held holds requests while one engine follows the other; or {smaller}"
        raise ResourceError(f"memory of target {params.target} for a second engine", value, needed, next_step)
    if gpus and planned + reserve > free:
        note(f"{value}: a driver that does not count page cache may refuse {planned / 1e9:.1f} GB")
    return None
