"""Expected speed and memory of a setting before it is probed, refitted with every probe.

Time of one micro-batch of T = pack_length x micro_batch tokens, S = pack_length:

    t = p (a T + b + c T S)        p: passes over the weights, 2 without recomputation, 3 with full, 2.5 with selective

a: seconds a token in the Linears; b: seconds a pass that do not depend on T (NF4 weights are dequantized in each pass);
c: attention under a dense mask. a, b, c >= 0 minimise the squared relative error over probes and one prior guess. What
a mode of recomputation, an attention implementation or a loss does beyond that is one factor each: the geometric mean
of measured over expected speed.

    memory = resident + r activations(setting)

resident is measured when the model is loaded, `activations` is the planner's estimate, and r the measured ratio of that
mode, at least what an out-of-memory error proved. Left out: fragmentation (probes report what was reserved), anything
across GPUs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from slipway.training.nemo.steps import pack_fills
from slipway.training.tuning.setting import Result, Setting

PASSES = {"none": 2.0, "selective": 2.5, "full": 3.0}
# Speed against sdpa and the masked loss, assumed until a probe has measured it
PRIOR_FACTORS = {"flash_attention_2": 1.3, "eager": 0.7, "chunked": 1.0, "fused_linear": 1.02}
KINDS = ("checkpointing", "attention", "loss")
Activations = Callable[[Setting], float]


@dataclass
class SpeedModel:
    """Non-padding tokens a second of a setting, on one GPU.

    `flops_per_token` is of one forward pass through the Linears, `attention_flops` of one forward pass per token and
    token of context. `filled(S)` is the share of a pack of S tokens that is not padding, 0 to 1.
    """

    flops_per_token: float
    attention_flops: float
    filled: Callable[[int], float]
    _fit: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0), init=False)
    _factors: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.filled = functools.cache(self.filled)

    def learn(self, results: Sequence[Result]) -> None:
        """Fit to every result that has a rate; at least one must. Replaces what was learned before."""
        timed = [r for r in results if r.tokens_per_s]
        prior = self._prior(timed)
        rows = [(_columns(r.setting), self._seconds(r)) for r in timed if r.setting.plain]
        # Rows are divided by their time: a relative error of a short micro-batch counts as much as one of a long
        self._fit = non_negative([([x / t for x in xs], 1.0) for xs, t in rows] + prior)
        self._factors = {}
        for kind in KINDS:
            for value in {getattr(r.setting, kind) for r in timed}:
                ratios = [
                    r.tokens_per_s / self._expected(r.setting, without=kind)
                    for r in timed
                    if getattr(r.setting, kind) == value
                ]
                self._factors[value] = math.exp(sum(map(math.log, ratios)) / len(ratios))

    def expected(self, setting: Setting) -> float:
        """Non-padding tokens a second that a setting is expected to reach; call `learn` first."""
        return self._expected(setting, without="")

    def _expected(self, setting: Setting, without: str) -> float:
        a, b, c = self._fit
        seconds = sum(x * k for x, k in zip(_columns(setting), (a, b, c), strict=True))
        values = [getattr(setting, kind) for kind in KINDS if kind != without]
        factor = math.prod(self._factors.get(value, PRIOR_FACTORS.get(value, 1.0)) for value in values)
        return factor * setting.tokens * self.filled(setting.pack_length) / seconds

    def _seconds(self, result: Result) -> float:
        """Seconds of one micro-batch, out of the measured rate."""
        return result.setting.tokens * self.filled(result.setting.pack_length) / result.tokens_per_s

    def _prior(self, timed: Sequence[Result]) -> list[tuple[list[float], float]]:
        """Pseudo-observations from the first probe: a third of its time does not depend on T, attention at a quarter of
        the Linears' efficiency. They weigh a tenth of a probe each, enough to decide what the probes leave open."""
        first = timed[0]
        (at, bt, ct), total = _columns(first.setting), self._seconds(first)
        share = 4 * self.attention_flops / self.flops_per_token * first.setting.pack_length
        a = total * (2 / 3) / (1 + share) / at
        guess = (a, total / 3 / bt, a * at * share / ct)
        weight = 0.1**0.5
        return [([weight * (k == i) / g for k in range(3)], weight) for i, g in enumerate(guess) if g > 0]


def _columns(setting: Setting) -> list[float]:
    """The factors of a, b and c in the time of one micro-batch."""
    p, tokens = PASSES[setting.checkpointing], setting.tokens
    return [p * tokens, p, p * tokens * setting.pack_length]


def non_negative(rows: Iterable[tuple[list[float], float]], sweeps: int = 400) -> tuple[float, float, float]:
    """The x >= 0 of three elements that minimises sum (row . x - y)^2, by `sweeps` passes of coordinate descent."""
    rows = list(rows)
    # Columns differ by ten powers of ten (tokens x length against 1): scaled, or the sums of products lose their digits
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
    """Peak bytes of a setting on one GPU. `resident`: bytes of the loaded model; `activations`: the planner's estimate
    of a step's bytes beyond those."""

    def __init__(self, resident: float, activations: Activations) -> None:
        self._resident, self._activations = resident, activations
        self._ratios: dict[tuple[str, str], float] = {}

    def expected(self, setting: Setting) -> float:
        """Peak bytes that a setting is expected to reserve."""
        return self._resident + self._ratio(setting) * self._activations(setting)

    def learn_peak(self, setting: Setting, peak: float) -> None:
        """Take a measured peak in bytes. It replaces the former one of its mode: the search moves towards settings like
        the last ones."""
        self._ratios[_mode(setting)] = max(peak - self._resident, 0.0) / self._activations(setting)

    def learn_excess(self, setting: Setting, limit: float) -> None:
        """Take it that a setting did not fit into `limit` bytes: its mode needs at least 2% more than that."""
        least = 1.02 * (limit - self._resident) / self._activations(setting)
        self._ratios[_mode(setting)] = max(self._ratio(setting), least)

    def _ratio(self, setting: Setting) -> float:
        if ratio := self._ratios.get(_mode(setting)):
            return ratio
        known = [ratio for ratio in self._ratios.values() if ratio > 0]
        # The square root of the other modes' mean: half way to 1, because the planner errs differently for each mode
        return math.exp(sum(map(math.log, known)) / len(known) / 2) if known else 1.0


def _mode(setting: Setting) -> tuple[str, str]:
    return setting.checkpointing, setting.attention


def filled_share(lengths: Sequence[int], pack_length: int) -> float:
    """Share of tokens, 0 to 1, that are not padding when samples of these lengths are packed as NeMo's `neat` does.
    Samples longer than a pack are left out; 0 when none fits."""
    fills = pack_fills([n for n in lengths if n <= pack_length], pack_length)
    return sum(fills) / (len(fills) * pack_length) if fills else 0.0
