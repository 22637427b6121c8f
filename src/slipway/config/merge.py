"""Section `merge`: base and adapter to a checkpoint. Short because a section is one file."""

from __future__ import annotations

from pydantic import Field

from slipway.config.base import Section


class MergeConfig(Section):
    """Base + adapter -> checkpoint."""

    materialize: bool = Field(
        False,
        description="Write the merged bf16 shards; otherwise the checkpoint is virtual (base + adapter by reference).",
    )
    max_shard_gb: float = Field(4.0, gt=0, description="Largest shard written when materializing, GB.")
    proof_layers: int = Field(3, ge=1, description="Layers sampled for the merge proof.")
    proof_tokens: int = Field(
        64, ge=1, description="Tokens whose logits are compared between the merge and base + adapter."
    )
    max_logit_error: float = Field(
        0.35,
        gt=0,
        description="Largest mean absolute logit difference allowed by the proof (bf16 rounding of the merge), with "
        "equal experts where routers choose some.",
    )
