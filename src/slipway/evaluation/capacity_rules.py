"""The gate's rule on memory: the target must hold the planned number of requests at once with this model.

The figures are those of `slipway capacity` (`planning.serving_capacity`), of the quantized checkpoint as it is stored.
"""

from __future__ import annotations

from slipway.config.gate_rows import GateRow
from slipway.config.target import TargetConfig
from slipway.evaluation.gate_rules import Outcome, Rule
from slipway.planning.kv_cache import UnknownCacheError
from slipway.planning.serving_capacity import Wish, model_in, serving_capacity
from slipway.store.artifacts import Quantized
from slipway.system.memory import total_bytes


def capacity_rule(quantized: Quantized, serving: TargetConfig, row: GateRow) -> Rule:
    """As many requests of `context` tokens as planned, or more.

    A model whose cache nobody knows is inconclusive. Raises CheckpointError for a checkpoint that cannot be read.
    """
    planned = int(row.number)
    wish = Wish(planned, row.context)
    try:
        plan = serving_capacity(model_in(quantized.path), wish, serving, memory=total_bytes())
    except UnknownCacheError as err:
        return _rule(None, planned, "inconclusive", f"nobody can tell how many users fit: {str(err)[:300]}")
    ways = "; ".join(f"{way.change}: {way.users}" for way in plan.ways_out[:3])
    reason = (
        f"{serving.name} holds {plan.users} requests of {row.context} tokens at once beside "
        f"{plan.weights / 1e9:.3g} GB of weights, {'at least' if plan.fits else 'fewer than'} {planned}"
    )
    return _rule(plan.users, planned, "pass" if plan.fits else "fail", reason + (f"; {ways}" if ways else ""))


def _rule(users: float | None, planned: int, outcome: Outcome, reason: str) -> Rule:
    return Rule(
        "memory", "users", "target", users, planned, None, None, outcome, reason, unit="users", direction="at least"
    )
