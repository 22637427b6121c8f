"""Whether a second engine fits beside the one that serves: what it is planned to take against what is free now.

A GPU with memory of its own is asked by nvidia-smi. What is planned is of one GPU, so that of several the fullest
counts. One that shares the CPU's memory says `[N/A]` there: then, and without a GPU, MemAvailable counts, which page
cache does not lessen. Both less a reserve.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from slipway.agent.fits import fits
from slipway.agent.haproxy.settings import proxy_settings
from slipway.agent.probe import ANSWER_S, memory
from slipway.agent.settings import Settings
from slipway.agent.start_plan import StartPlan
from slipway.errors import ResourceError

BESIDE, HELD = "beside", "held"
QUERY = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]


@dataclass(frozen=True)
class Room:
    """Bytes that are free, and of what: `GPU memory`, of each GPU, or `memory`. -1: nobody could say."""

    free: int
    kind: str


def room() -> Room:
    """What is free on this machine now."""
    try:
        done = subprocess.run(QUERY, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_S, check=False)
        lines = done.stdout.decode(errors="replace").split("\n") if done.returncode == 0 else []
    except (OSError, subprocess.TimeoutExpired):
        lines = []
    free = [line.strip() for line in lines if line.strip()]
    if free and all(re.fullmatch(r"\d+", line) for line in free):
        return Room(min(map(int, free)) * 1024 * 1024, "GPU memory")
    return Room(memory()["available"], "memory")


def choose_way(plan: StartPlan, now: Room, reserve_gb: float) -> tuple[str, str]:
    """`beside` or `held`, and why in words. An engine whose plan names no memory starts beside, as does one on a
    machine that does not say what is free."""
    if plan.memory_bytes <= 0 or now.free < 0:
        return BESIDE, "beside: no memory is planned for it" if now.free >= 0 else "beside: free memory is not known"
    need, left = plan.memory_bytes / 1e9, now.free / 1e9 - reserve_gb
    way = BESIDE if fits(need, left) else HELD
    return way, f"{way}: {need:.1f} GB planned, {left:.1f} GB of {now.kind} free above a reserve of {reserve_gb:g}"


def hold_warning(name: str, plan: StartPlan, settings: Settings) -> str | None:
    """What to say before the old engine ends for a held swap: requests wait less long than `name` may take to start;
    None where they wait long enough, or nothing holds them.

    Raises ResourceError, while the old engine serves still, for an engine whose start was measured to take longer: each
    request that comes at the swap's beginning would be lost."""
    proxy = proxy_settings(settings.proxy)
    if proxy is None:
        return None
    most, limit_s = proxy.hold_limit_s, plan.limit_s(settings.start_timeout_s)
    if plan.measured_start_s > most:
        raise ResourceError(
            f"held swap to {name}",
            f"its start was measured to take {plan.measured_start_s:.0f} s",
            f"less than requests are held, deploy.proxy.hold_limit_s={most:g}",
            "raise deploy.proxy.hold_limit_s, or deploy.way=beside where memory holds both; nothing was stopped",
        )
    if limit_s <= most:
        return None
    return f"held: {name} may take up to {limit_s:.0f} s to start and requests wait at most {most:g} s, then 503"
