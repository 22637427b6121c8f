"""How many optimizer steps NeMo AutoModel makes of a dataset, computed before it runs.

packs  = bins of its greedy knapsack: longest sample first, into the emptiest bin when it fits there, else a new bin
         (components/datasets/llm/neat_packing.py, greedy_knapsack)
loader = ceil(floor(packs / dp) / micro)     its sampler drops what does not divide by the ranks, its loader does not
epoch  = ceil(loader / accumulate)           accumulate = global / (micro * dp)
         (components/training/step_scheduler.py)
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence


def pack_fills(lengths: Sequence[int], pack_length: int) -> list[int]:
    """Tokens in each pack of at most `pack_length` when NeMo packs samples of these lengths, in no order. No sample may
    be longer than a pack."""
    fills: list[int] = []  # a heap: the emptiest pack is at its root
    for length in sorted(lengths, reverse=True):
        if fills and fills[0] + length <= pack_length:
            heapq.heapreplace(fills, fills[0] + length)
        else:
            heapq.heappush(fills, length)
    return fills


def count_packs(lengths: Sequence[int], pack_length: int) -> int:
    """Packs of at most `pack_length` tokens that NeMo makes of samples of these lengths."""
    return len(pack_fills(lengths, pack_length))


def steps_per_epoch(sequences: int, *, global_batch: int, micro_batch: int, ranks: int) -> int:
    """Optimizer steps of one pass over `sequences`; 0 when there is not one for every rank."""
    loader = math.ceil(sequences // ranks / micro_batch)
    return math.ceil(loader * micro_batch * ranks / global_batch)


def total_steps(per_epoch: int, epochs: float, most: int | None) -> int:
    """Optimizer steps of the whole run, at least one: `epochs` may be fractional, `most` ends the run earlier."""
    whole = max(1, round(epochs * per_epoch))
    return min(whole, most) if most else whole
