"""Whether a config's gate can be judged at all, said before any work.

A module of its own: no stage reaches it, so that what a rule is called decides no evaluation's key.
"""

from __future__ import annotations

from collections.abc import Sequence

from slipway.config.evaluate import EvaluateConfig
from slipway.config.gate import GateConfig
from slipway.config.gate_kinds import KINDS
from slipway.config.gate_rows import GateRow, rows_of
from slipway.errors import ConfigError
from slipway.evaluation.metric import PRIMARY
from slipway.evaluation.shipped import known_names
from slipway.evaluation.streamed_metrics import STREAMED
from slipway.system.nearest import did_you_mean

# What measures the metrics of a prefix, where nothing of it is measured
LAYERS = {
    "agent": "layers.agent=agent/home evaluates an agent",
    "answer": "rag.answers={} evaluates answers over what rag.arm retrieves",
    "rag": "layers.rag=rag/embedded, or rag.arm, evaluates retrieval",
}


def check_gate(gate: GateConfig, config: EvaluateConfig, beside: Sequence[str] = ()) -> None:
    """Raise ConfigError for a rule of the gate on a metric that no evaluation of this config can measure, and for a
    gate that has no rule for the first release of a line: it would end the run when all else is made. `beside`:
    metrics of agents and of retrieval that the run evaluates."""
    rows = rows_of(gate)
    _require_a_rule(rows)
    for row in rows:
        if row.rows and row.metric in beside:
            expected = "a metric of test rows: what is measured beside them has items of its own"
            raise ConfigError(f"{row.key}.rows", f"{row.rows} for {row.metric}", expected, "leave rows out")
    measured = list(config.metrics) if config.metrics is not None else known_names()
    known = [PRIMARY, *measured, *(metric.name for metric in STREAMED), *beside]
    keys = {row.key if row.rule == "floor" else f"{row.key}.metric": row.metric for row in rows if row.metric}
    for key, name in keys.items():
        if name not in known:
            hint = did_you_mean(name, known, "rename it; gate.floors={} takes all floors away")
            layer = LAYERS.get(name.partition("_")[0])
            hint = layer if layer and not any(one.startswith(name.partition("_")[0]) for one in beside) else hint
            raise ConfigError(key[:200], f"no metric {name[:100]!r}", f"one of {', '.join(known)}", hint)


def _require_a_rule(rows: Sequence[GateRow]) -> None:
    if not any(KINDS[row.rule].alone and row.against not in ("champion", "best") for row in rows):
        expected = "a rule that needs no champion: a floor, a limit, or a paired test against the merge or the base"
        raise ConfigError("gate", "no rule for a first release", expected, "set gate.floors")
