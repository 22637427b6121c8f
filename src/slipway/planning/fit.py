"""Does it fit: the one answer that plans, preflight, recipes, tuning, engines, promotion and their errors give.

    room of a GPU       `usable_gb`, where `slipway probe` measured it; else memory less `reserve_gb`
    on the machine      that room, less where the machine itself says that it has less
    beside what runs    available now (of unified memory MemAvailable) less what must stay available
    room of a machine   its memory less what must stay free
    fits                needed <= room

Where a formula does not know a model's architecture there is no figure, and the answer is `cannot tell`.
"""

from __future__ import annotations

from dataclasses import dataclass

from slipway.agent.fits import fits
from slipway.config.target import TargetConfig

GB = 1e9


@dataclass(frozen=True)
class Fit:
    """Bytes that are needed and that may be taken. `unknown`: why nobody can tell; then `needed` counts for nothing.
    `way_out`: what to do where it does not fit, or where nobody can tell."""

    needed: float
    room: float
    unknown: str = ""
    way_out: str = ""

    @property
    def fits(self) -> bool:
        """Whether it is known to fit."""
        return not self.unknown and fits(self.needed, self.room)

    def __str__(self) -> str:
        """`32.1 of 108.0 GB: fits`."""
        if self.unknown:
            return f"cannot tell: {self.unknown}"
        return f"{self.needed / GB:.1f} of {self.room / GB:.1f} GB: {'fits' if self.fits else 'does not fit'}"


def fit(needed: float, room: float, *, way_out: str = "") -> Fit:
    """Whether `needed` bytes fit into `room`."""
    return Fit(needed, room, way_out="" if fits(needed, room) else way_out)


def cannot_tell(why: str, way_out: str) -> Fit:
    """The answer about a model that no formula knows."""
    return Fit(0.0, 0.0, unknown=why, way_out=way_out)


def gpu_room(target: TargetConfig) -> float | None:
    """Bytes of one GPU that work may take; None for a target without GPU memory."""
    if target.usable_gb is not None:
        return target.usable_gb * GB
    return None if target.gpu_memory_gb is None else (target.gpu_memory_gb - target.reserve_gb) * GB


def room_there(target: TargetConfig, total: float) -> float:
    """Bytes of one GPU that work may take on a machine of this row that says it has `total`, of a GPU or of the memory
    that it shares; of a row without a GPU all of them."""
    room = gpu_room(target)
    kept = target.reserve_gb if target.gpus and target.usable_gb is None else 0.0  # what was measured is without it
    left = total - kept * GB
    return left if room is None else min(room, left)


def room_beside(target: TargetConfig, available: float, reserve_gb: float) -> float:
    """Bytes that a second engine may take where `available` are free now: less the reserve, and on a machine whose row
    has a load guard less what that lets nobody take."""
    return available - max(reserve_gb, target.guard.available_gb if target.guard else 0.0) * GB


def room_in_words(target: TargetConfig) -> str:
    """Where the figure of `gpu_room` comes from: `128 GB less 20 GB reserve`."""
    if target.usable_gb is not None:
        return f"{target.usable_gb:g} GB usable, as `slipway probe` measured"
    if target.gpu_memory_gb is None:
        return f"what is there less {target.reserve_gb:g} GB reserve" if target.gpus else "what is there"
    return f"{target.gpu_memory_gb:g} GB less {target.reserve_gb:g} GB reserve"
