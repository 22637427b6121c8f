"""A setting that `slipway tune` may choose, the result of probing it, and the machine that probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Status = Literal["ok", "slower", "oom", "too_big", "error"]


@dataclass(frozen=True, order=True)
class Setting:
    """What a search varies: tokens of a pack, packs of a micro-batch, recomputation (`none`, `selective`, `full`),
    attention implementation and loss, by the names of the section `train`."""

    pack_length: int
    micro_batch: int
    checkpointing: str
    attention: str = "sdpa"
    loss: str = "masked"

    @property
    def tokens(self) -> int:
        """Tokens of one micro-batch on one GPU, padding included."""
        return self.pack_length * self.micro_batch

    @property
    def plain(self) -> bool:
        """Attention and loss as in the untuned recipe."""
        return self.attention == "sdpa" and self.loss == "masked"

    def __str__(self) -> str:
        return f"{self.micro_batch} x {self.pack_length}, {self.checkpointing}, {self.attention}, {self.loss}"


@dataclass(frozen=True)
class Result:
    """`ok`: timed to its end. `slower`: stopped, clearly slower than the best. `oom`: did not fit the device.
    `too_big`: ran, but above the target's memory. `error`: `reason` says why. Rates in non-padding tokens a second,
    memory in bytes as reserved."""

    setting: Setting
    status: Status
    tokens_per_s: float = 0.0
    low: float = 0.0
    high: float = 0.0
    steps: int = 0
    step_s: float = 0.0
    allocated: int = 0
    reserved: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Machine:
    """The machine after the model was loaded. `resident`: bytes of the loaded model; `seconds`: it took to get
    there; `absent`: attentions and losses that are not installed there."""

    device: str
    resident: int
    seconds: float
    attentions: tuple[str, ...]
    losses: tuple[str, ...]
    absent: tuple[str, ...] = ()


class Prober(Protocol):
    """A machine on which settings can be tried, one at a time."""

    def start(self) -> Machine:
        """Load the model; raises StageError when it cannot."""

    def probe(self, setting: Setting, best_low: float) -> Result:
        """Time a setting, giving it up once it is clearly slower than `best_low`. Never raises for what the setting
        does."""
