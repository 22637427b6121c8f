"""One check of kernel agreement: prompts, the engine's answers, the reference's view of them, the verdict.

What the reference rounds follows from what computes (`rounding_of`): the plan's word for a GPU's kernels, ggml's types
for llama.cpp. Products with 16-bit weights convert their inputs to that type; with 4-bit weights to Q8_0, blocks of 32
with an fp16 scale; the cache is fp16 (ggml-cpu's `vec_dot_type`). FP8 weights are bf16 in a GGUF file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.agent.engine_key import OPEN, EngineAccess
from slipway.config.engine import AgreementConfig
from slipway.engines.driver import ServePlan
from slipway.engines.model_facts import read_model
from slipway.engines.token_client import NoTokenIdsError, TokenClient, WrittenTokens
from slipway.errors import CheckpointError, DataError, ResourceError, SlipwayError
from slipway.evaluation.agreement_prompts import prompt_tokens
from slipway.evaluation.kernel_agreement import (
    Agreement,
    AnswerDifference,
    TooFewTokensError,
    judge_agreement,
    require_agreement,
)
from slipway.store.artifacts import Checkpoint, Quantized
from slipway.system.progress import Progress

if TYPE_CHECKING:
    from slipway.calibration.kernel_rounding import KernelRounding

LEAST_TOKENS = 24
# What the plan says that a GPU's kernels compute in -> what inputs of products with quantized weights are rounded to
_COMPUTES = {
    "bf16": "bf16",
    "fp16": "fp16",
    "W8A8 FP8": "fp8",
    "W8A8 FP8, a scale per token": "fp8-token",
    "W8A16 FP8": "bf16",
    "W4A4 NVFP4": "nvfp4",
    "W4A16 NVFP4": "bf16",
    "W4A16 MXFP4": "bf16",
}


class Agreeing:
    """A check in two steps, since the engine may have to end before the reference computes: `ask`, then `verdict`."""

    def __init__(
        self, checkpoint: Checkpoint | Quantized, plan: ServePlan, params: AgreementConfig, progress: Progress
    ) -> None:
        self._checkpoint, self._plan, self._params, self._progress = checkpoint, plan, params, progress
        self._answers: list[WrittenTokens] | str = "the engine was not asked"

    def of(self, plan: ServePlan) -> Agreeing:
        """The same check of another server of these weights."""
        return Agreeing(self._checkpoint, plan, self._params, self._progress)

    def ask(self, url: str) -> None:
        """As `ask_engine`, of an engine that serves at `url`."""
        self._answers = ask_engine(self._checkpoint, self._plan, url, self._params, self._progress)

    def verdict(self) -> dict[str, Any]:
        """As `verdict_on`, of what it was asked."""
        return verdict_on(self._answers, self._checkpoint, self._plan, self._params, self._progress)

    def figures(self) -> dict[str, Any]:
        """As `figures_on`, of what it was asked."""
        return figures_on(self._answers, self._checkpoint, self._plan, self._params, self._progress)


def ask_engine(
    checkpoint: Checkpoint | Quantized,
    plan: ServePlan,
    url: str,
    params: AgreementConfig,
    progress: Progress,
    long_tokens: int = 0,
    access: EngineAccess = OPEN,
) -> list[WrittenTokens] | str:
    """What an engine that serves `checkpoint` at `url` writes after the prompts, or why it is not asked: switched off,
    no token ids, too short a context. With `check: on` the last two are errors: EngineError, ResourceError.
    `long_tokens`: of the last answer, where that is more than of the others; `access`: how the engine is asked."""
    if params.check == "off":
        return "engine.agreement.check=off"
    try:
        return _ask(checkpoint, plan, url, params, progress, long_tokens, access)
    except (NoTokenIdsError, CheckpointError, ResourceError) as err:
        return _refused(err, params, progress)


def verdict_on(
    answers: Sequence[WrittenTokens] | str,
    checkpoint: Checkpoint | Quantized,
    plan: ServePlan,
    params: AgreementConfig,
    progress: Progress,
) -> dict[str, Any]:
    """`figures_on` of these answers. Raises EngineError when the check fails."""
    judged = _judged(answers, checkpoint, plan, params, progress)
    if isinstance(judged, str):
        return {"refused": judged}
    require_agreement(judged)
    return judged.figures()


def figures_on(
    answers: Sequence[WrittenTokens] | str,
    checkpoint: Checkpoint | Quantized,
    plan: ServePlan,
    params: AgreementConfig,
    progress: Progress,
) -> dict[str, Any]:
    """Figures of the check of these answers by the weights of `checkpoint`, passed or failed, or under `refused` why
    there was none: what `ask_engine` says, or an architecture that cannot be walked (CheckpointError with `check: on`).

    The engine may have ended: on a GPU the reference needs its memory. torch and transformers are loaded here. Raises
    EngineError for a log-probability that is not finite.
    """
    judged = _judged(answers, checkpoint, plan, params, progress)
    return {"refused": judged} if isinstance(judged, str) else judged.figures()


def _judged(
    answers: Sequence[WrittenTokens] | str,
    checkpoint: Checkpoint | Quantized,
    plan: ServePlan,
    params: AgreementConfig,
    progress: Progress,
) -> Agreement | str:
    if isinstance(answers, str):
        return answers
    from slipway.weights.checkpoint import open_checkpoint

    quantized = isinstance(checkpoint, Quantized)
    rounding, note = rounding_of(plan, read_model(checkpoint.path).formats if quantized else ("bf16",))
    if note:
        progress.note(f"kernel agreement: {note}")
    source = None if isinstance(checkpoint, Quantized) else open_checkpoint(checkpoint)
    try:
        return _compare(answers, checkpoint.path, source, rounding, params.states_gb * 1e9, progress)
    except (CheckpointError, DataError, TooFewTokensError) as err:
        return _refused(err, params, progress)


def agreement_figures(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What of a verdict goes into the engine's summary."""
    if "refused" in verdict:
        return {"agreement": "not checked"}
    names = ("ratio", "ratio_limit", "growth", "growth_limit", "mean_difference", "tokens")
    return {"agreement": verdict["outcome"], **{f"agreement_{name}": verdict[name] for name in names if verdict[name]}}


def _refused(err: SlipwayError, params: AgreementConfig, progress: Progress) -> str:
    if params.check == "on":
        raise err
    progress.note(f"kernel agreement not checked: {err}")
    return str(err)


def rounding_of(plan: ServePlan, formats: Sequence[str]) -> tuple[KernelRounding, str]:
    """What the engine's kernels round, for weights of these formats, and a note where that is not simulated."""
    from slipway.calibration.kernel_rounding import KernelRounding

    if plan.kind == "llama.cpp":
        if any("fp4" in name for name in formats):
            return KernelRounding(inputs="bf16", quantized="q8_0", attention="fp16"), ""
        return KernelRounding(inputs="bf16", quantized="bf16", attention="fp16", weights="bf16"), ""
    plain: Any = "fp16" if plan.computes == "fp16" else "bf16"
    cache: Any = "fp8-token" if "fp8" in plan.limits.kv_dtype else plain
    quantized: Any = _COMPUTES.get(plan.computes, plain)
    note = "" if plan.computes in _COMPUTES else f"inputs of {plan.computes} kernels are simulated as {plain}"
    return KernelRounding(inputs=plain, quantized=quantized, attention=cache, results=plain), note


def compare(
    written: Sequence[WrittenTokens],
    model: Path,
    quantized: bool,
    rounding: KernelRounding,
    budget: float,
    progress: Progress,
) -> Agreement:
    """The verdict on an engine's answers, by the weights in `model`: a directory that quantize wrote, or a plain
    one. `budget`: bytes of hidden states."""
    from slipway.weights.dequantized import open_weights

    return _compare(written, model, None if quantized else open_weights(model), rounding, budget, progress)


def _ask(
    checkpoint: Checkpoint | Quantized,
    plan: ServePlan,
    url: str,
    params: AgreementConfig,
    progress: Progress,
    long_tokens: int,
    access: EngineAccess,
) -> list[WrittenTokens]:
    asked = prompt_tokens(checkpoint.path, params.prompts)
    longest = max(map(len, asked))
    room = plan.limits.context - longest - 1
    tokens = min(params.tokens, room)
    if tokens < LEAST_TOKENS:
        problem = f"{plan.limits.context} tokens, of which prompts take up to {longest}"
        raise ResourceError("engine.context", problem, f"{LEAST_TOKENS} tokens beside them", "raise engine.context")
    client = TokenClient(plan.kind, url, plan.alias, access=access)
    most = min(max(tokens, long_tokens), room)
    short, long = (asked, []) if most == tokens else (asked[:-1], asked[-1:])
    written = client.write(short, tokens, min(plan.limits.slots, len(short)), progress) if short else []
    return [*written, *(client.write(long, most, 1, progress) if long else [])]


def _compare(
    written: Sequence[WrittenTokens],
    model: Path,
    source: Any,
    rounding: KernelRounding,
    budget: float,
    progress: Progress,
) -> Agreement:
    """torch and transformers are loaded here."""
    from slipway.calibration.answers import Answer
    from slipway.streaming.streamed_reference import Machine
    from slipway.streaming.token_reference import TokenReference

    answers = [Answer(str(i), (*one.prompt, *one.tokens), len(one.prompt)) for i, one in enumerate(written)]
    scores = TokenReference(model, source, rounding, Machine.exact(budget)).score(answers, progress)
    return judge_agreement(
        [
            AnswerDifference(one.log_probabilities, score.rounded, score.exact, score.greedy)
            for one, score in zip(written, scores, strict=True)
        ]
    )
