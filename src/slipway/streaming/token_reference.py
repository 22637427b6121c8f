"""What the weights of a checkpoint say of tokens that an engine wrote, token by token, without an engine.

    h_x -> layer(W)                 h_x        fp32, nothing rounded but the weights
    h_k -> layer(W), rounded inputs h_k        fp32 with what the engine's kernels round (`calibration.kernel_rounding`)

Both streams have the same weights and walk together, one decoder layer in memory. What rounding alone moves a token's
log-probability by, log p_k - log p_x, is the yardstick by which an engine's own difference from p_k is judged: a model
that is sensitive to rounding is so in both. Teacher forcing: every token is read after those that the engine wrote.

Memory: one layer's weights (two while the next is read), hidden states of both streams within the budget, logits of
64 MB of positions; rows beyond the budget take another pass over the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from slipway.calibration.answer_scores import token_terms
from slipway.calibration.answers import Answer, Batch
from slipway.calibration.kernel_rounding import head_rounding, layer_rounding, rounded
from slipway.calibration.layer_calls import LayerSpec, Shared
from slipway.calibration.layer_walk import Head, HiddenStates, LayerWalk
from slipway.calibration.rounding_kinds import KernelRounding
from slipway.quantization.fusion import module
from slipway.streaming.source_model import Model
from slipway.streaming.stored_names import StoredNames
from slipway.streaming.streamed_reference import Machine, ahead, passes, require_length
from slipway.streaming.walk_weights import DequantizedWeights, MergedWeights, WalkWeights
from slipway.system.progress import Progress
from slipway.weights.shards import Shards, WeightSource

_INPUT_SCALES = ("input_scale", "input_global_scale")


@dataclass(frozen=True)
class TokenScores:
    """Of one answer's tokens, in order: log-probabilities (nats) with the kernels' rounding and without any, and
    whether each is the greedy choice of the first."""

    id: str
    rounded: tuple[float, ...]
    exact: tuple[float, ...]
    greedy: tuple[bool, ...]


class TokenReference:
    """A model directory, plain or quantized, that scores an engine's tokens."""

    def __init__(
        self, directory: Path, source: WeightSource | None, rounding: KernelRounding, machine: Machine
    ) -> None:
        """`source`: the weights of a plain checkpoint; None: `directory` holds what quantize wrote. `machine.dtype`
        must be fp32. Raises CheckpointError for an architecture that cannot be walked, and weights in no known form."""
        self._machine, self._rounding = machine, rounding
        self._weights: WalkWeights
        self._scales: dict[str, torch.Tensor | None] = {}
        if source is None:
            names = StoredNames(directory)
            self.walk = LayerWalk(directory, names, device=machine.device, dtype=machine.dtype)
            self._weights = DequantizedWeights(directory, names, machine.device, machine.dtype)
            self._scales = _input_scales(Shards.open(directory), names.quantized)
        else:
            self.walk = LayerWalk(directory, source, device=machine.device, dtype=machine.dtype)
            kept = Model(source, directory, {}).weights().fp32
            self._weights = MergedWeights(source, kept, machine.device, machine.dtype)

    def score(self, answers: Sequence[Answer], progress: Progress) -> list[TokenScores]:
        """Scores of every answer, in order. Raises DataError for a row longer than the model reads."""
        require_length(answers, self.walk.text_config)
        scores: dict[str, TokenScores] = {}
        groups = passes(answers, self.walk.text_config, self._machine)
        for number, group in enumerate(groups):
            for one in self._pass(group, progress, (number, len(groups))):
                scores[one.id] = one
        return [scores[answer.id] for answer in answers]

    def _pass(self, group: Sequence[Batch], progress: Progress, part: tuple[int, int]) -> list[TokenScores]:
        exact = self.walk.embed_batches(
            [batch.tokens for batch in group], self._load(self.walk.embed_names), shared=Shared()
        )
        kernel, layers = exact.clone(), self.walk.layers
        loads = [partial(self._load, layer.names) for layer in layers]
        for done, (layer, weights) in enumerate(zip(layers, ahead(loads), strict=True), 1):
            with self.walk.load(layer, weights) as loaded:
                self.walk.run(layer, loaded, exact)
                with layer_rounding(loaded, self._rounding, self._quantized(layer)):
                    self.walk.run(layer, loaded, kernel)
            kernel.values[:] = [rounded(value, self._rounding.results) for value in kernel.values]
            progress.update("agreement", part[0] * len(layers) + done, part[1] * len(layers), "layers")
        return self._score(group, exact, kernel)

    def _load(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Weights as the engine computes with them: vectors (norms, biases) stay in fp32."""
        return {
            name: rounded(value, self._rounding.weights) if value.dim() > 1 and value.is_floating_point() else value
            for name, value in self._weights.load(names).items()
        }

    def _quantized(self, layer: LayerSpec) -> Mapping[str, torch.Tensor | None]:
        made = self.walk.parameters_of(layer, self._scales)
        return {path: self._scales[name] for path, name in made.items()}

    def _score(self, group: Sequence[Batch], exact: HiddenStates, kernel: HiddenStates) -> list[TokenScores]:
        scores: list[TokenScores] = []
        with ExitStack() as stack:
            head = stack.enter_context(self.walk.head(self._load(self.walk.head_names)))

            def kernel_head(hidden: torch.Tensor) -> torch.Tensor:
                with head_rounding(self._rounding):
                    return head(hidden)

            plain: Head = head
            heads = (lambda: nullcontext(plain), lambda: nullcontext(kernel_head))
            for batch, one, other in zip(group, exact.values, kernel.values, strict=True):
                terms = token_terms(batch, (one, other), heads, self.walk.text_config.vocab_size)
                scores += _by_answer(batch, terms)
        return scores


def _by_answer(batch: Batch, terms: torch.Tensor) -> list[TokenScores]:
    """Terms fp64 [5, tokens] of all answers one after another -> scores of each."""
    sizes = [len(answer.tokens) - answer.start for answer in batch.answers]
    return [
        TokenScores(answer.id, tuple(part[1].tolist()), tuple(part[0].tolist()), tuple(part[4].bool().tolist()))
        for answer, part in zip(batch.answers, torch.split(terms, sizes, 1), strict=True)
    ]


def _input_scales(stored: Shards, weights: frozenset[str]) -> dict[str, torch.Tensor | None]:
    """Static input scale, fp32 scalar, of every quantized weight; None where the checkpoint has none. NVFP4's in the
    layout compressed-tensors is the reciprocal."""
    scales: dict[str, torch.Tensor | None] = {}
    for weight in weights:
        plain, divisor = (f"{module(weight)}.{name}" for name in _INPUT_SCALES)
        if plain in stored:
            scales[weight] = stored.read(plain).float().reshape(())
        else:
            scales[weight] = 1 / stored.read(divisor).float().reshape(()) if divisor in stored else None
    return scales
