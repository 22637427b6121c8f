"""Text to unit vectors: a BERT-like model on the CPU, or a server's /v1/embeddings.

    vector = normalize(sum over windows of tokens(window) * normalize(pool(model(window))))

A text of at most `max_length` tokens (special ones counted) is one window. A longer one is cut into windows of that
length, one after the other, and its vector is their mean, weighted by their tokens; so no text is cut silently. One
text at a time is given to the model, each on one thread: a vector depends on nothing but its text, whatever is embedded
beside it, and several texts are embedded in parallel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tokenizers import Tokenizer

from slipway.config.rag import EmbedderConfig
from slipway.errors import CheckpointError
from slipway.rag.embedder_files import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    EmbedderFacts,
    EmbedderFiles,
    embedder_files,
    facts_of,
)
from slipway.rag.embedding_server import ServedEmbedder
from slipway.rag.tokens import tokenizer_of
from slipway.rag.unit_vectors import F32, normalized_rows, sum_of_windows


class Embedder(Protocol):
    """What turns texts into unit vectors, fp32 [n, dimension], in their order."""

    facts: EmbedderFacts
    tokenizer: Tokenizer

    def passages(self, texts: Sequence[str]) -> F32:
        """Vectors of what is searched, with the passage prefix."""
        ...

    def queries(self, texts: Sequence[str]) -> F32:
        """Vectors of questions, with the query prefix."""
        ...


def open_embedder(params: EmbedderConfig, cache: Path) -> Embedder:
    """The embedder of the config. Raises CheckpointError for files that are no such model, ResourceError for a package
    that cannot be had, EngineError for a server that does not answer."""
    files = embedder_files(params, cache)
    if params.source == "url":
        return ServedEmbedder(params, facts_of(params, files), tokenizer_of(files.required(TOKENIZER)))
    return LocalEmbedder(params, files)


class LocalEmbedder:
    """A model of `transformers` in fp32 on the CPU."""

    def __init__(self, params: EmbedderConfig, files: EmbedderFiles) -> None:
        self.facts = facts_of(params, files)
        self.tokenizer = tokenizer_of(files.required(TOKENIZER))
        self._model = _model(files)
        self._threads = params.threads or len(os.sched_getaffinity(0))
        around = self.tokenizer.encode("", add_special_tokens=True).ids
        self._specials = len(around)
        half = (self._specials + 1) // 2  # one of two before the text; a single one before it
        self._first, self._last = around[:half], around[half:]

    def passages(self, texts: Sequence[str]) -> F32:
        """See `Embedder`."""
        return self._embed([self.facts.passage_prefix + text for text in texts])

    def queries(self, texts: Sequence[str]) -> F32:
        """See `Embedder`."""
        return self._embed([self.facts.query_prefix + text for text in texts])

    def _embed(self, texts: Sequence[str]) -> F32:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(self._threads) as pool:
                rows = list(pool.map(self._vector, texts))
        finally:
            torch.set_num_threads(before)
        vectors = np.stack(rows) if rows else np.empty((0, self._model.config.hidden_size), np.float32)
        return normalized_rows(vectors, [repr(text[:60]) for text in texts])

    def _vector(self, text: str) -> F32:
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        windows = list(self._windows(ids))
        rows = np.stack([self._pooled(window) for window in windows])
        return sum_of_windows(rows, [len(window) - self._specials for window in windows])

    def _windows(self, ids: Sequence[int]) -> Iterator[list[int]]:
        room = self.facts.max_length - self._specials
        for at in range(0, max(len(ids), 1), room):
            yield [*self._first, *ids[at : at + room], *self._last]

    def _pooled(self, ids: list[int]) -> F32:
        with torch.inference_mode():
            tokens = torch.tensor([ids])
            hidden = self._model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0]
            pooled = hidden[0] if self.facts.pooling == "cls" else hidden.mean(0)
        return np.asarray(pooled.numpy(), dtype=np.float32)


def _model(files: EmbedderFiles) -> Any:
    """The network with its weights, out of bytes: nothing is unpacked. Raises CheckpointError."""
    from safetensors.torch import load
    from transformers import AutoConfig, AutoModel

    document = files.document(CONFIG)
    try:
        config = AutoConfig.for_model(**document)
        model = AutoModel.from_config(config, dtype=torch.float32)
        state = {_bare(name, model): tensor.float() for name, tensor in load(files.required(WEIGHTS)).items()}
    except Exception as err:
        raise CheckpointError(
            f"embedder {files.place}",
            f"{type(err).__name__}: {err}",
            "a model that transformers loads",
            "check its files",
        ) from err
    return _filled(model, state, files.place)


def _filled(model: Any, state: dict[str, torch.Tensor], place: str) -> Any:
    """The model with these weights. The pooler that BERT adds is not used and may lack."""
    missing, _ = model.load_state_dict(state, strict=False, assign=True)
    wanted = [name for name in missing if not name.startswith("pooler.")]
    if wanted:
        raise CheckpointError(f"embedder {place}", f"no {wanted[0]}", "every weight of the model", "check its files")
    return model.eval()


def _bare(name: str, model: Any) -> str:
    """A weight's name without the prefix of a whole model (`bert.`)."""
    prefix = f"{model.base_model_prefix}."
    return name.removeprefix(prefix)
