"""Reference answers scored by a model and by its quantized form, neither of which is ever in memory.

    h_a -> layer(W merged) -> h_a        h_b -> layer(W dequantized) -> h_b        after the last layer: answer_scores

Both streams walk together: a layer of one model is loaded, run on every row, and gone, while the next is being read.
In memory are two layers' weights, the hidden states of both streams, and logits of one chunk of positions. The states
are bounded by `budget`: rows beyond it wait for another pass over the weights. That costs less than spilling states to
disk, which would write and read them once a layer: with budget B, states S, weights W and L layers, S / B * W bytes are
read against 2 L S, and B is more than W / 2 L for every model that is worth streaming.

What is done outlives a kill: every pass leaves its scores in `scores.jsonl`, and once a minute at a layer's end the
states are written to `states.safetensors` (at most `budget` bytes, twice while one replaces the other). Files of
another version of the code or other inputs are the caller's business: it gives each job a folder of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from slipway.calibration.answer_scores import AnswerScore, OpenHead, score
from slipway.calibration.answers import Answer, Batch, batches, depends_on_length
from slipway.calibration.layer_calls import Shared
from slipway.calibration.layer_walk import HiddenStates, LayerWalk
from slipway.errors import DataError
from slipway.streaming.source_model import Model
from slipway.streaming.state_file import StateFile
from slipway.streaming.walk_weights import DequantizedWeights, MergedWeights
from slipway.system.files import write_atomic
from slipway.system.progress import Progress
from slipway.weights.shards import WeightSource

SCORES, STATES = "scores.jsonl", "states.safetensors"
SAVE_EVERY_S = 60.0
BATCH_TOKENS = 2048
_WEIGHTS = dict[str, torch.Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Machine:
    """Where the walk computes: device, dtype, and bytes that hidden states of both streams may take."""

    device: torch.device
    dtype: torch.dtype
    budget: float

    @classmethod
    def here(cls, budget: float) -> Machine:
        """A GPU in bf16, as models are served there; else the CPU in fp32, where bf16 is slower and no more true."""
        if torch.cuda.is_available():
            return cls(torch.device("cuda"), torch.bfloat16, budget)
        return cls(torch.device("cpu"), torch.float32, budget)

    @classmethod
    def exact(cls, budget: float) -> Machine:
        """A GPU or else the CPU in fp32: for a stream in which nothing may be rounded unasked."""
        return cls(torch.device("cuda" if torch.cuda.is_available() else "cpu"), torch.float32, budget)

    def peak(self) -> dict[str, float]:
        """Most memory of a GPU that this process has had allocated, GB; empty on a CPU."""
        if self.device.type != "cuda":
            return {}
        return {"peak_gpu_gb": round(torch.cuda.max_memory_allocated(self.device) / 1e9, 3)}


class StreamedReference:
    """A merge and its quantized form, walked together."""

    def __init__(self, source: WeightSource, directory: Path, quantized: Path, machine: Machine) -> None:
        """`source`: the merge's weights; `directory`: its config.json; `quantized`: what quantize wrote. Raises
        CheckpointError for an architecture that cannot be walked, and for weights in no known form."""
        self._machine = machine
        self.walk = LayerWalk(directory, source, device=machine.device, dtype=machine.dtype)
        self._models = (
            MergedWeights(source, Model(source, directory, {}).weights().fp32, machine.device, machine.dtype),
            DequantizedWeights(quantized, source, machine.device, machine.dtype),
        )

    def score(self, answers: Sequence[Answer], folder: Path, progress: Progress) -> list[AnswerScore]:
        """A score for every answer, in order; goes on from `folder` where a killed run stopped. Raises DataError for a
        row longer than the model reads."""
        require_length(answers, self.walk.text_config)
        groups = self.passes(answers)
        scores = {one.id: one for one in _scored_before(folder / SCORES)}
        for number, group in enumerate(groups):
            if all(answer.id in scores for batch in group for answer in batch.answers):
                continue
            report = _Report(progress, number, len(groups), 2 * len(self.walk.layers))
            made = self._pass(group, StateFile(folder / STATES, {"pass": str(number)}), report)
            scores |= {one.id: one for one in made}
            lines = [json.dumps(asdict(one)) + "\n" for one in scores.values()]
            write_atomic(folder / SCORES, "".join(lines))
        (folder / STATES).unlink(missing_ok=True)
        return [scores[answer.id] for answer in answers]

    def passes(self, answers: Sequence[Answer]) -> list[list[Batch]]:
        """Micro-batches by pass over the weights: as many as the states' budget holds, one at least."""
        return passes(answers, self.walk.text_config, self._machine)

    def _pass(self, group: Sequence[Batch], file: StateFile, report: _Report) -> list[AnswerScore]:
        streams = self._embed(group)
        first = file.restore(streams, self._machine.device)
        layers = self.walk.layers[first:]
        loads = [_loading(model, layer.names) for layer in layers for model in self._models]
        weights, saved = ahead(loads), time.monotonic()
        for done, layer in enumerate(layers, first + 1):
            for stream in streams:
                with self.walk.load(layer, next(weights)) as module:
                    self.walk.run(layer, module, stream)
                report.step(2 * done - (stream is streams[0]))
            if time.monotonic() - saved > SAVE_EVERY_S and done < len(self.walk.layers):
                file.save(streams, done)
                saved = time.monotonic()
        return self._score(group, streams)

    def _embed(self, group: Sequence[Batch]) -> tuple[HiddenStates, HiddenStates]:
        shared, tokens = Shared(), [batch.tokens for batch in group]
        first, second = (
            self.walk.embed_batches(tokens, model.load(self.walk.embed_names), shared=shared) for model in self._models
        )
        return first, second

    def _score(self, group: Sequence[Batch], streams: tuple[HiddenStates, HiddenStates]) -> list[AnswerScore]:
        with ExitStack() as stack:
            heads = self._heads(stack)
            return score(group, *streams, heads, self.walk.text_config.vocab_size)

    def _heads(self, stack: ExitStack) -> tuple[OpenHead, OpenHead]:
        """One head loaded for both models where their tensors are equal, else each when it is called."""
        first, second = (model.load(self.walk.head_names) for model in self._models)
        if first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first):
            head = stack.enter_context(self.walk.head(first))
            return lambda: nullcontext(head), lambda: nullcontext(head)
        return lambda: self.walk.head(first), lambda: self.walk.head(second)


def passes(answers: Sequence[Answer], config: Any, machine: Machine) -> list[list[Batch]]:
    """Micro-batches by pass over the weights of two streams: as many as the states' budget holds, one at least.
    `config`: transformers' config of the decoder."""
    token_bytes = 2 * config.hidden_size * machine.dtype.itemsize
    groups: list[list[Batch]] = []
    left = 0.0
    most = min(BATCH_TOKENS, int(machine.budget // token_bytes))
    for batch in batches(answers, most, by_length=depends_on_length(config.to_dict())):
        nbytes = batch.tokens.numel() * token_bytes
        if not groups or nbytes > left:
            groups.append([])
            left = machine.budget
        groups[-1].append(batch)
        left -= nbytes
    return groups


def require_length(answers: Sequence[Answer], config: Any) -> None:
    """Raise DataError for a row longer than a decoder with this transformers' config reads."""
    most = getattr(config, "max_position_embeddings", None)
    long = next((one for one in answers if most and len(one.tokens) > most), None)
    if long:
        raise DataError(
            f"row {long.id}", f"{len(long.tokens)} tokens", f"at most {most}, which the model reads", "shorten it"
        )


class _Report:
    """Progress of one pass of several: a layer of one model is a step."""

    def __init__(self, progress: Progress, number: int, passes: int, steps: int) -> None:
        self._progress, self._before, self._total = progress, number * steps, passes * steps
        self._passes = f"{number + 1} of {passes}"

    def step(self, done: int) -> None:
        """`done` steps of this pass are done."""
        self._progress.update("reference", self._before + done, self._total, "layers", over_weights=self._passes)


def _loading(model: MergedWeights | DequantizedWeights, names: Sequence[str]) -> Callable[[], _WEIGHTS]:
    return lambda: model.load(names)


def ahead(loads: Sequence[Callable[[], T]]) -> Iterator[T]:
    """What each call returns, in order, one call ahead in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(loads[0]) if loads else None
        for following in (*loads[1:], None):
            if coming is None:
                return
            value = coming.result()
            coming = pool.submit(following) if following else None
            yield value


def _scored_before(file: Path) -> list[AnswerScore]:
    lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
    return [AnswerScore(**json.loads(line)) for line in lines if line]
