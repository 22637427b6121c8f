"""One check of kernel agreement: prompts, the engine's answers, the reference's view of them, the verdict.

What the reference rounds follows from what computes (`rounding_of`): the plan's word for a GPU's kernels, ggml's types
for llama.cpp. Products with 16-bit weights convert their inputs to that type; with 4-bit weights to Q8_0, blocks of 32
with an fp16 scale; the cache is fp16 (ggml-cpu's `vec_dot_type`). FP8 weights are bf16 in a GGUF file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway.agent.engine_key import OPEN, EngineAccess
from slipway.calibration.rounding_kinds import KernelRounding
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
from slipway.evaluation.known_scores import KnownScores, Score, write_scores
from slipway.store.artifacts import Checkpoint, Quantized
from slipway.system.progress import Progress

LEAST_TOKENS = 24
NOTHING_KNOWN = KnownScores()
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
    """A check in two steps, since the engine may have to end before the reference computes: `ask`, then `verdict`.

    `answers`: what an engine wrote, or why it was not asked. `scored`: what was judged with its scores, empty before
    `verdict` or `figures`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | Quantized,
        plan: ServePlan,
        params: AgreementConfig,
        progress: Progress,
        known: KnownScores = NOTHING_KNOWN,
    ) -> None:
        """`known`: scores that the weights of `checkpoint` got before, by which their tokens need no reference."""
        self._checkpoint, self._plan, self._params, self._progress = checkpoint, plan, params, progress
        self._known = known
        self.answers: Sequence[WrittenTokens] | str = "the engine was not asked"
        self.scored: list[tuple[WrittenTokens, Score]] = []

    def of(self, plan: ServePlan) -> Agreeing:
        """The same check of another server of these weights."""
        return Agreeing(self._checkpoint, plan, self._params, self._progress, self._known)

    def ask(self, url: str, long_tokens: int = 0, access: EngineAccess = OPEN) -> None:
        """Have an engine that serves the checkpoint at `url` write after the prompts; where it is not asked, because
        the check is off, it gives no token ids or its context is too short, `answers` says so. With `check: on` the
        last two are errors: EngineError, ResourceError. `long_tokens`: of the last answer, where that is more than of
        the others; `access`: how the engine is asked."""
        if self._params.check == "off":
            self.answers = "engine.agreement.check=off"
            return
        try:
            self.answers = self._written(url, long_tokens, access)
        except (NoTokenIdsError, CheckpointError, ResourceError) as err:
            self.answers = self._refused(err)

    def verdict(self) -> dict[str, Any]:
        """`figures`; raises EngineError when the check fails."""
        judged = self._judged()
        if isinstance(judged, str):
            return {"refused": judged}
        require_agreement(judged)
        return judged.figures()

    def figures(self) -> dict[str, Any]:
        """Figures of the check of the answers by the weights of the checkpoint, passed or failed, or under `refused`
        why there was none: what `ask` says, or an architecture that cannot be walked (CheckpointError with
        `check: on`).

        The engine may have ended: on a GPU the reference needs its memory. torch and transformers are loaded here,
        unless every score is known. Raises EngineError for a log-probability that is not finite.
        """
        judged = self._judged()
        return {"refused": judged} if isinstance(judged, str) else judged.figures()

    def keep_scores(self, bundle: Path) -> None:
        """Write what was scored into `bundle`, for whoever gets the same tokens of the same weights; nothing where
        there was no check."""
        if self.scored:
            write_scores(bundle, self._rounding()[0], self.scored)

    def _written(self, url: str, long_tokens: int, access: EngineAccess) -> list[WrittenTokens]:
        asked = self._known.prompts(self._params.prompts) or prompt_tokens(self._checkpoint.path, self._params.prompts)
        longest = max(map(len, asked))
        room = self._plan.limits.context - longest - 1
        tokens = min(self._params.tokens, room)
        if tokens < LEAST_TOKENS:
            problem = f"{self._plan.limits.context} tokens, of which prompts take up to {longest}"
            raise ResourceError("engine.context", problem, f"{LEAST_TOKENS} tokens beside them", "raise engine.context")
        client = TokenClient(self._plan.kind, url, self._plan.alias, access=access)
        most = min(max(tokens, long_tokens), room)
        short, long = (asked, []) if most == tokens else (asked[:-1], asked[-1:])
        at_once = min(self._plan.limits.slots, len(short))
        written = client.write(short, tokens, at_once, self._progress) if short else []
        return [*written, *(client.write(long, most, 1, self._progress) if long else [])]

    def _judged(self) -> Agreement | str:
        if isinstance(self.answers, str):
            return self.answers
        rounding, note = self._rounding()
        if note:
            self._progress.note(f"kernel agreement: {note}")
        known = {answer: score for answer in self.answers if (score := self._known.of(answer, rounding))}
        others = [answer for answer in self.answers if answer not in known]
        try:
            known |= dict(zip(others, self._scores(others, rounding), strict=True))
            self.scored = [(answer, known[answer]) for answer in self.answers]
            return _agreement(self.scored)
        except (CheckpointError, DataError, TooFewTokensError) as err:
            return self._refused(err)

    def _scores(self, answers: Sequence[WrittenTokens], rounding: KernelRounding) -> list[Score]:
        if not answers:
            return []
        from slipway.weights.checkpoint import open_checkpoint

        source = None if isinstance(self._checkpoint, Quantized) else open_checkpoint(self._checkpoint)
        return scores(answers, self._checkpoint.path, source, rounding, self._params.states_gb * 1e9, self._progress)

    def _rounding(self) -> tuple[KernelRounding, str]:
        quantized = isinstance(self._checkpoint, Quantized)
        return rounding_of(self._plan, read_model(self._checkpoint.path).formats if quantized else ("bf16",))

    def _refused(self, err: SlipwayError) -> str:
        if self._params.check == "on":
            raise err
        self._progress.note(f"kernel agreement not checked: {err}")
        return str(err)


def agreement_figures(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What of a verdict goes into the engine's summary."""
    if "refused" in verdict:
        return {"agreement": "not checked"}
    names = ("ratio", "ratio_limit", "growth", "growth_limit", "mean_difference", "tokens")
    return {"agreement": verdict["outcome"], **{f"agreement_{name}": verdict[name] for name in names if verdict[name]}}


def rounding_of(plan: ServePlan, formats: Sequence[str]) -> tuple[KernelRounding, str]:
    """What the engine's kernels round, for weights of these formats, and a note where that is not simulated."""
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

    source = None if quantized else open_weights(model)
    return _agreement(zip(written, scores(written, model, source, rounding, budget, progress), strict=True))


def scores(
    written: Sequence[WrittenTokens],
    model: Path,
    source: Any,
    rounding: KernelRounding,
    budget: float,
    progress: Progress,
) -> list[Score]:
    """What weights say of these tokens, in order: those of `source`, or, where that is None, those that quantize wrote
    into `model`. `budget`: bytes of hidden states. torch and transformers are loaded here."""
    from slipway.calibration.answers import Answer
    from slipway.streaming.streamed_reference import Machine
    from slipway.streaming.token_reference import TokenReference

    answers = [Answer(str(i), (*one.prompt, *one.tokens), len(one.prompt)) for i, one in enumerate(written)]
    scored = TokenReference(model, source, rounding, Machine.exact(budget)).score(answers, progress)
    return [Score(one.rounded, one.exact, one.greedy) for one in scored]


def _agreement(scored: Iterable[tuple[WrittenTokens, Score]]) -> Agreement:
    return judge_agreement(
        [AnswerDifference(one.log_probabilities, score.kernel, score.exact, score.greedy) for one, score in scored]
    )
