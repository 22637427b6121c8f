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
from slipway.planning.fit import GB, fit, room_beside, room_in_words, room_there

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
    _require_memory(plan, row, probe, params, note)


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
    plan: ServePlan, row: TargetConfig, probe: Probe, params: DeployConfig, note: Callable[[str], None]
) -> None:
    """Planned bytes of one GPU against what the row and the machine give; beside an engine that serves against what is
    free now."""
    planned = sum(part for part in plan.memory.values() if part > 0)
    if planned <= 0:
        return
    gpus, memory = list(probe.get("gpus") or ()), probe.get("memory") or {}
    kind = "GPU memory" if _mib(gpus, "memory.total") is not None else "memory"  # of the machine, which a GPU shares
    total = _mib(gpus, "memory.total") or int(memory.get("total", -1))
    if total < 0:
        note(f"{params.target} does not say how much memory it has: {planned / GB:.1f} GB are planned")
        return
    smaller = "plan a smaller engine (engine.slots, engine.context, another format), or another target"
    whole = fit(planned, room_there(row, total), way_out=smaller)
    if not whole.fits:
        expected = f"room for the engine in {total / GB:.1f} GB; the row {row.name}: {room_in_words(row)}"
        raise ResourceError(f"{kind} of target {params.target}", str(whole), expected, whole.way_out)
    if params.way == "beside":
        _require_beside(planned, row, probe, params, note)


def _require_beside(
    planned: float, row: TargetConfig, probe: Probe, params: DeployConfig, note: Callable[[str], None]
) -> None:
    """What is free now, where the machine says it: of a GPU of its own, else MemAvailable. A driver that shares the
    memory may want MemFree."""
    gpus, memory = list(probe.get("gpus") or ()), probe.get("memory") or {}
    own, available, free = _mib(gpus, "memory.free"), int(memory.get("available", -1)), int(memory.get("free", -1))
    now = available if own is None else own
    if now < 0 or (own is None and _mib(gpus, "memory.total") is not None):
        return  # an agent of before does not say what is free of a GPU
    value = f"{available / GB:.1f} GB available (MemAvailable, of which {free / GB:.1f} MemFree)"
    value = value if own is None else f"{own / GB:.1f} GB of the fullest GPU free"
    second = fit(planned, room_beside(row, now, params.reserve_gb))
    if not second.fits:
        thing = f"{'memory' if own is None else 'GPU memory'} of target {params.target} for a second engine"
        expected = f"{planned / GB:.1f} GB planned for it, {(now - second.room) / GB:g} kept free (deploy.reserve_gb)"
        next_step = "deploy.way=held holds requests while one engine follows the other; or plan a smaller engine"
        raise ResourceError(thing, value, expected, next_step)
    if own is None and gpus and not fit(planned, room_beside(row, free, params.reserve_gb)).fits:
        note(f"{value}: a driver that does not count page cache may refuse {planned / GB:.1f} GB")


def _mib(gpus: Sequence[Mapping[str, str]], field: str) -> int | None:
    """Bytes of the GPU that has the least, by a field of nvidia-smi; None without GPUs, and where one does not say: it
    shares the CPU's memory."""
    own = [re.fullmatch(r"(\d+) MiB", gpu.get(field, "")) for gpu in gpus]
    return min(int(match[1]) << 20 for match in own if match) if own and all(own) else None
