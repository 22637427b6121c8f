"""Stage `merge`: base + adapter -> checkpoint, virtual unless `materialize`, with a proof of the merge beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from slipway.config.merge import MergeConfig
from slipway.config.quantize import QuantizeConfig
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Adapter, Artifact, Checkpoint

if TYPE_CHECKING:
    from slipway.config.load import Config
    from slipway.weights.lora import LoraAdapter
    from slipway.weights.merged import MergedSource
    from slipway.weights.shards import TensorSource

OUTPUT: type[Artifact] = Checkpoint
_SHOWN = (
    "mean_abs",
    "max_abs",
    "kl",
    "top1_agreement",
    "routed_mean_abs",
    "router_error",
    "rerouted_tokens",
    "rerouted_mean_abs",
)


def params_of(config: Config) -> MergeConfig:
    """This stage's params in a run."""
    return config.merge


def merge(base: Checkpoint, adapter: Adapter, params: MergeConfig, space: Workspace) -> None:
    """Check that the adapter fits, prove the merge, write the checkpoint. Raises AdapterError or CheckpointError."""
    from slipway.streaming.export import export_merged
    from slipway.streaming.source_model import Model
    from slipway.weights.checkpoint import open_checkpoint, write_virtual
    from slipway.weights.full_weights import holds_full_weights
    from slipway.weights.lora import LoraAdapter
    from slipway.weights.merged import MergedSource
    from slipway.weights.model_config import read_config
    from slipway.weights.model_files import copy_small_files

    source = open_checkpoint(base)
    if holds_full_weights(adapter.path):
        _pass_through(base, adapter, source, space)
        return
    lora = LoraAdapter(adapter.path)
    for name in lora.names():
        lora.read(name)  # NaN and Inf are found here, before anything is written
    merged = MergedSource(source, lora, read_config(base.path))
    for note in merged.notes():
        space.progress.note(note)
    proof = _prove(base, adapter, source, merged, lora, params, space.progress.note)
    notes = copy_small_files(base.path, space.out, config=merged.config(), adapter=adapter.path)
    for note in notes:
        space.progress.note(note)
    if params.materialize:
        model = Model(merged, space.out, {"base": base.digest, "adapter": adapter.digest})
        export_merged(model, space.out, QuantizeConfig(max_shard_gb=params.max_shard_gb), space.progress)
    else:
        write_virtual(space.out, base, adapter)
    (space.out / "proof.json").write_text(json.dumps(proof, indent=1) + "\n", encoding="utf-8")
    (space.out / "summary.json").write_text(json.dumps(_summary(merged, proof, params, notes)) + "\n", encoding="utf-8")


def _pass_through(base: Checkpoint, trained: Adapter, source: TensorSource, space: Workspace) -> None:
    """The checkpoint of full fine-tuning: its weights as they are."""
    from slipway.weights.full_weights import check_full_weights, pass_through
    from slipway.weights.model_files import copy_small_files

    weights, changed = check_full_weights(trained.path, source)
    pass_through(trained.path, space.out)
    copy_small_files(base.path, space.out)
    proof = {"convention": "full fine-tuning: the trained weights themselves", "trained": trained.digest}
    summary = {"updated_tensors": changed, "tensors": len(weights.names()), "materialized": True}
    space.progress.note(f"{changed} of {len(weights.names())} tensors were trained; nothing is merged")
    (space.out / "proof.json").write_text(json.dumps({**proof, "base": base.digest}, indent=1) + "\n", encoding="utf-8")
    (space.out / "summary.json").write_text(json.dumps(summary) + "\n", encoding="utf-8")


def _prove(
    base: Checkpoint,
    adapter: Adapter,
    source: TensorSource,
    merged: MergedSource,
    lora: LoraAdapter,
    params: MergeConfig,
    note: Callable[[str], None],
) -> dict[str, Any]:
    from slipway.weights.checkpoint import is_virtual
    from slipway.weights.merge_proof import prove_layers, prove_logits, require_equal_logits, why_no_logits

    proof: dict[str, Any] = {
        "convention": "bf16(fp32(fp32(W) + fp32(scaling * (B @ A)))), scaling * (B @ A) exact, rounded once",
        "base": base.digest,
        "adapter": adapter.digest,
        "share_one_bf16_step_from_peft": prove_layers(source, merged, lora, params.proof_layers),
    }
    reason = why_no_logits(source, base_is_virtual=is_virtual(base))
    if reason is None and not lora.is_as_peft_saves():
        reason = "PEFT does not read the names of this adapter"
    if reason:
        return {**proof, "logits": None, "logits_not_run": reason}
    logits = prove_logits(base.path, adapter.path, merged, params.proof_tokens)
    require_equal_logits(logits, params.max_logit_error)
    if rerouted := int(logits.get("rerouted_tokens", 0)):
        note(
            f"merge proof: routers near a tie send {rerouted} of {params.proof_tokens} tokens to other experts; with "
            f"equal experts the logits differ by {logits['routed_mean_abs']:.4f}"
        )
    return {**proof, "logits": dict(logits)}


def _summary(merged: MergedSource, proof: dict[str, Any], params: MergeConfig, notes: Sequence[str]) -> dict[str, Any]:
    logits, shares = proof["logits"] or {}, proof["share_one_bf16_step_from_peft"]
    return {
        "updated_tensors": len(merged.updates),
        "tensors": len(merged.names()),
        "materialized": params.materialize,
        **({"files": " ".join(notes)} if notes else {}),
        "proof_layers": len(shares),
        "proof_share_one_step_from_peft": max(shares.values(), default=0.0),
        **{f"logits_{key}": logits[key] for key in _SHOWN if key in logits},
    }
