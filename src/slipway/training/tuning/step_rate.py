"""How fast a setting is, from a few timed steps, and when to stop timing it.

rate r = n / t per step, n non-padding tokens and t seconds of one optimizer step. With k steps, mean m and standard
deviation s of the rates, [m - z s / sqrt(k), m + z s / sqrt(k)] bounds the true rate; s is at least 2% of m, because
two or three steps in a row agree better than they should. A setting whose upper bound lies below the best lower bound
so far is clearly slower.

Standard library only: it runs in the orchestrator and, mounted, in the training container.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Z = 2.0
LEAST_SPREAD = 0.02  # of the mean
FEWEST = 2


@dataclass(frozen=True)
class Rate:
    """Tokens a second: mean and bounds, over `steps` steps."""

    mean: float
    low: float
    high: float
    steps: int


def rate(tokens: Sequence[int], seconds: Sequence[float]) -> Rate:
    """The rate of timed steps; at least one. `tokens`: non-padding tokens of each step."""
    each = [n / t for n, t in zip(tokens, seconds, strict=True)]
    mean = sum(tokens) / sum(seconds)
    spread = max(statistics.stdev(each) if len(each) > 1 else 0.0, LEAST_SPREAD * mean)
    half = Z * spread / math.sqrt(len(each))
    return Rate(mean, mean - half, mean + half, len(each))


def clearly_slower(tokens: Sequence[int], seconds: Sequence[float], best_low: float) -> bool:
    """Whether these steps rule the setting out against a best whose rate is at least `best_low`, tokens a second."""
    return len(seconds) >= FEWEST and rate(tokens, seconds).high < best_low
