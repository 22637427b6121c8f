"""Which way the unquantized merge is measured: served by an engine, streamed layer by layer, or both.

`auto` serves where the bf16 weights, the KV cache of all slots and buffers fit this machine's memory with a reserve
(`planning.serving_memory`), and streams where they do not, or where what the model keeps of a request is not known.
Free text is streamed besides: its answers have no one right form, so the log-likelihood of the reference answers
belongs to its default metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway.config.engine import EngineConfig
from slipway.config.evaluate import EvaluateConfig
from slipway.planning.kv_cache import UnknownCacheError
from slipway.planning.serving_memory import RESERVE, ServingMemory, serving_memory

_OVERRIDES = "evaluate.reference=served|streamed|both overrides"


@dataclass(frozen=True)
class ReferencePlan:
    """Whether the unquantized models are served, whether the merge is streamed, whether an architecture that cannot be
    streamed ends the run, and why so, in a sentence."""

    served: bool
    streamed: bool
    required: bool
    why: str


def reference_plan(
    params: EvaluateConfig, engine: EngineConfig, base: Path, memory: float, *, free_text: bool
) -> ReferencePlan:
    """How to measure the merge over the base model in directory `base` on a machine with `memory` bytes. Raises
    CheckpointError, in `auto` only, when that directory cannot be read."""
    if params.reference != "auto":
        served, streamed = params.reference != "streamed", params.reference != "served"
        return ReferencePlan(served, streamed, streamed, f"evaluate.reference={params.reference}")
    try:
        need = serving_memory(base, slots=engine.slots, context=engine.context)
    except UnknownCacheError as err:
        return ReferencePlan(False, True, False, f"the unquantized merge is streamed: {err.value}; {_OVERRIDES}")
    fits = need.fits(memory)
    ways = "served" if fits and not free_text else "served and streamed" if fits else "streamed"
    reasons = [_sizes(need, memory, fits=fits), *(["the answers are free text"] if free_text else [])]
    why = f"the unquantized merge is {ways}: {'; '.join(reasons)} ({_OVERRIDES})"
    return ReferencePlan(fits, free_text or not fits, False, why)


def _sizes(need: ServingMemory, memory: float, *, fits: bool) -> str:
    parts = f"{need.weights / 1e9:.1f} weights, {need.kv_cache / 1e9:.1f} KV cache"
    return (
        f"{need.total / 1e9:.1f} GB to serve it ({parts}) {'fit' if fits else 'do not fit'} {memory / 1e9:.1f} GB less "
        f"{RESERVE:.0%}"
    )
