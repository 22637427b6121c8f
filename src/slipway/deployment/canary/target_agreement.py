"""Kernel agreement of a candidate at its target: the target's engine writes, through whatever URL it is reached by, and
this machine, which has the weights that it was built from, scores what it wrote (ADR 43).

A policy decides what an impossible check means (`deploy.probe.agreement.check`); a check that fails undoes the
promotion whatever the policy says.
"""

from __future__ import annotations

from typing import Any

from slipway.config.deploy import DeployConfig
from slipway.config.engine import AgreementConfig
from slipway.config.probe import TargetAgreementConfig
from slipway.deployment.target import Document, Note
from slipway.engines.bundle import read_plan
from slipway.errors import EngineError, SlipwayError, StateError
from slipway.store.artifacts import MANIFEST, Checkpoint, Engine, Quantized
from slipway.store.references import resolve
from slipway.store.store import load
from slipway.system.json_files import is_present

OFF = "deploy.probe.agreement.check=off"
RETURNED = "a release that comes back was judged when it was promoted; its answers are asked again"
_KINDS: dict[str, type[Checkpoint | Quantized]] = {Checkpoint.kind: Checkpoint, Quantized.kind: Quantized}


def judge(
    engine: Engine, url: str, params: DeployConfig, note: Note, endpoint: Document | None = None
) -> dict[str, Any]:
    """Figures of the check of the engine that serves `engine` at `url`, and is asked as its `endpoint` says, or under
    `refused` why there are none.

    Raises EngineError when it does not agree with its weights; with `check: required` also when it cannot be judged.
    """
    wanted = params.probe.agreement
    if wanted.check == "off":
        return {"refused": OFF}
    try:
        verdict = _checked(engine, url, params, wanted, note, endpoint or {})
    except StateError as err:  # the store has not the weights: no word on the engine
        verdict = {"refused": str(err)}
    if wanted.check == "required" and "refused" in verdict:
        next_step = "make the run's store whole where you promote from, or deploy.probe.agreement.check=when-possible"
        raise EngineError("kernel agreement at the target", verdict["refused"], "a verdict: it is required", next_step)
    return verdict


def require_possible(engine: Engine, params: DeployConfig) -> None:
    """Raise EngineError, before anything moves, where the check is required and the weights are not here."""
    if params.probe.agreement.check != "required":
        return
    try:
        weights_of(engine)
    except SlipwayError as err:
        next_step = "promote from where the run's store is, or deploy.probe.agreement.check=when-possible"
        raise EngineError("kernel agreement at the target", str(err), "its weights here: required", next_step) from err


def weights_of(engine: Engine) -> Checkpoint | Quantized:
    """What the engine was built from, in this store. Raises StateError when it is gone or was made again."""
    reference = engine.manifest.get("provenance", {}).get("inputs", {}).get("checkpoint")
    next_step = "run the pipeline again"
    if not isinstance(reference, dict) or reference.get("kind") not in _KINDS:
        value, expected = "its manifest names none", "what it was built from"
        raise StateError(f"weights of engine {engine.digest[:12]}", value, expected, next_step)
    path = resolve(reference, engine.path)
    if not is_present(path / MANIFEST):
        raise StateError(f"weights of engine {engine.digest[:12]}", f"not in this store: {path}", "there", next_step)
    checkpoint = load(_KINDS[reference["kind"]], path)
    if checkpoint.digest != reference["digest"]:
        value = f"other ones at {path}"
        raise StateError(f"weights of engine {engine.digest[:12]}", value, "those it was built from", next_step)
    return checkpoint


def _checked(
    engine: Engine, url: str, params: DeployConfig, wanted: TargetAgreementConfig, note: Note, endpoint: Document
) -> dict[str, Any]:
    from slipway.evaluation.agreement_process import check_at  # a look at a target checks nothing

    return check_at(
        url,
        weights_of(engine),
        engine.path,
        read_plan(engine.path, here=False),
        AgreementConfig(check="auto", prompts=wanted.prompts, tokens=wanted.tokens, states_gb=wanted.states_gb),
        long_tokens=wanted.long_tokens,
        limit_s=wanted.limit_s,
        on_gpu=params.kind != "local",  # there the engine's memory is this machine's
        note=note,
        endpoint=endpoint,
    )
