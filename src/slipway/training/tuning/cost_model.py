"""What a setting is expected to cost before it is probed, corrected by every probe.

Time of one micro-batch of T = pack_length x micro_batch tokens, S = pack_length:

    t = p (a T + b + c T S)        p: passes over the weights, 2 without recomputation, 3 with full, 2.5 with selective

a: seconds a token in the Linears; b: seconds a pass that do not depend on T (NF4 weights are dequantized in each pass);
c: attention under a dense mask. a, b, c >= 0 minimise the squared relative error over probes and one prior guess. What
a mode of recomputation, an attention implementation or a loss does beyond that is one factor each, the mean ratio seen.

    memory = resident + r activations(setting)

resident is measured when the model is loaded, `activations` is the planner's estimate, and r the ratio seen for that
mode, at least what an out-of-memory showed. Left out: fragmentation (probes report what was reserved), anything across
GPUs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from slipway.training.nemo.steps import pack_fills
from slipway.training.tuning.setting import Result, Setting

PASSES = {"none": 2.0, "selective": 2.5, "full": 3.0}
UNSEEN = {
    "flash_attention_2": 1.3,
    "eager": 0.7,
    "chunked": 1.0,
    "fused_linear": 1.02,
}  # speed against what was measured
Activations = Callable[[Setting], float]


@dataclass
class SpeedModel:
    """Tokens a second of a setting. `flops_per_token`: of one forward pass through the Linears. `filled(S)`: share of a
    pack that is not padding."""

    flops_per_token: float
    attention_flops: float  # per token and token of context, one forward pass
    filled: Callable[[int], float]
    _fit: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0), init=False)
    _factors: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.filled = functools.cache(self.filled)

    def learn(self, results: Sequence[Result]) -> None:
        """Fit to every probe that has a rate."""
        seen = [r for r in results if r.tokens_per_s]
        prior = self._prior(seen)
        rows = [(_columns(r.setting), self._seconds(r)) for r in seen if r.setting.plain]
        self._fit = non_negative([([x / t for x in xs], 1.0) for xs, t in rows] + prior)
        self._factors = {}
        for kind in ("checkpointing", "attention", "loss"):
            for value in {getattr(r.setting, kind) for r in seen}:
                ratios = [
                    r.tokens_per_s / self._expected(r.setting, without=kind)
                    for r in seen
                    if getattr(r.setting, kind) == value
                ]
                self._factors[value] = math.exp(sum(map(math.log, ratios)) / len(ratios))

    def expected(self, setting: Setting) -> float:
        """Non-padding tokens a second."""
        return self._expected(setting, without="")

    def _expected(self, setting: Setting, without: str) -> float:
        a, b, c = self._fit
        seconds = sum(x * k for x, k in zip(_columns(setting), (a, b, c), strict=True))
        kinds = [kind for kind in ("checkpointing", "attention", "loss") if kind != without]
        factor = math.prod(
            self._factors.get(value, UNSEEN.get(value, 1.0)) for value in (getattr(setting, kind) for kind in kinds)
        )
        return factor * setting.tokens * self.filled(setting.pack_length) / seconds

    def _seconds(self, result: Result) -> float:
        """Of one micro-batch."""
        return result.setting.tokens * self.filled(result.setting.pack_length) / result.tokens_per_s

    def _prior(self, seen: Sequence[Result]) -> list[tuple[list[float], float]]:
        """Pseudo-observations from the first probe: a third of its time does not depend on T, attention at a quarter of
        the Linears' efficiency. They weigh a tenth of a probe each, enough to decide what the probes leave open."""
        first = seen[0]
        (at, bt, ct), total = _columns(first.setting), self._seconds(first)
        share = 4 * self.attention_flops / self.flops_per_token * first.setting.pack_length
        a = total * (2 / 3) / (1 + share) / at
        guess = (a, total / 3 / bt, a * at * share / ct)
        weight = 0.1**0.5
        return [([weight * (k == i) / g for k in range(3)], weight) for i, g in enumerate(guess) if g > 0]


def _columns(setting: Setting) -> list[float]:
    p, tokens = PASSES[setting.checkpointing], setting.tokens
    return [p * tokens, p, p * tokens * setting.pack_length]


def non_negative(rows: Iterable[tuple[list[float], float]], sweeps: int = 400) -> tuple[float, float, float]:
    """x >= 0 that minimises sum (row . x - y)^2, by coordinate descent; three unknowns."""
    rows = list(rows)
    scale = [max(abs(r[0][k]) for r in rows) or 1.0 for k in range(3)]
    gram = [[sum(r[i] * r[k] / scale[i] / scale[k] for r, _ in rows) for k in range(3)] for i in range(3)]
    right = [sum(r[i] * y / scale[i] for r, y in rows) for i in range(3)]
    x = [0.0, 0.0, 0.0]
    for _ in range(sweeps):
        for i in range(3):
            if gram[i][i]:
                x[i] = max(0.0, (right[i] - sum(gram[i][k] * x[k] for k in range(3) if k != i)) / gram[i][i])
    return x[0] / scale[0], x[1] / scale[1], x[2] / scale[2]


class MemoryModel:
    """Peak bytes of a setting on one GPU. `activations`: the planner's bytes beyond the resident ones."""

    def __init__(self, resident: float, activations: Activations) -> None:
        self._resident, self._activations = resident, activations
        self._ratios: dict[tuple[str, str], float] = {}

    def expected(self, setting: Setting) -> float:
        return self._resident + self._ratio(setting) * self._activations(setting)

    def seen(self, setting: Setting, peak: float) -> None:
        """A measured peak; the latest of a mode counts most, because the search moves towards what it needs."""
        self._ratios[_mode(setting)] = max(peak - self._resident, 0.0) / self._activations(setting)

    def exceeded(self, setting: Setting, limit: float) -> None:
        """It did not fit into `limit`: its mode needs more than was thought."""
        least = 1.02 * (limit - self._resident) / self._activations(setting)
        self._ratios[_mode(setting)] = max(self._ratio(setting), least)

    def _ratio(self, setting: Setting) -> float:
        if found := self._ratios.get(_mode(setting)):
            return found
        known = [ratio for ratio in self._ratios.values() if ratio > 0]
        return (
            math.exp(sum(map(math.log, known)) / len(known) / 2) if known else 1.0
        )  # half way: another mode errs otherwise


def _mode(setting: Setting) -> tuple[str, str]:
    return setting.checkpointing, setting.attention


def filled_share(lengths: Sequence[int], pack_length: int) -> float:
    """Share of tokens, 0 to 1, that are not padding when samples of these lengths are packed as NeMo's `neat` does.
    Samples longer than a pack are left out; 0 when none fits."""
    fills = pack_fills([n for n in lengths if n <= pack_length], pack_length)
    return sum(fills) / (len(fills) * pack_length) if fills else 0.0
