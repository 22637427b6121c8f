"""An embedder behind /v1/embeddings: our llama-server, NIM, vLLM and whatever speaks OpenAI's form.

The server cuts or refuses what is too long for it, each in its own way; so texts are cut into windows here as for a
local model, by the configured maximum, and every answer is checked: as many vectors as texts, all of one length.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from slipway.config.rag import EmbedderConfig
from slipway.errors import EngineError, EngineLostError
from slipway.rag.embedder_files import EmbedderFacts
from slipway.rag.tokens import ruler
from slipway.rag.unit_vectors import F32, normalized_rows, sum_of_windows

BATCH = 32
TIMEOUT_S = 120.0
_SPECIALS = 2  # room for a model's own start and end


class ServedEmbedder:
    """Vectors from a server; see `embedder.Embedder`."""

    def __init__(self, params: EmbedderConfig, facts: EmbedderFacts, tokenizer: Tokenizer) -> None:
        self.facts, self.tokenizer = facts, tokenizer
        self._url, self._model, self._dimension = (params.url or "").rstrip("/"), params.model, params.dimension

    def passages(self, texts: Sequence[str]) -> F32:
        """Vectors of what is searched, fp32 [n, dimension]."""
        return self._embed([self.facts.passage_prefix + text for text in texts])

    def queries(self, texts: Sequence[str]) -> F32:
        """Vectors of questions, fp32 [n, dimension]."""
        return self._embed([self.facts.query_prefix + text for text in texts])

    def _embed(self, texts: Sequence[str]) -> F32:
        windows = [self._windows(text) for text in texts]
        flat = [window for group in windows for window, _ in group]
        vectors = [row for at in range(0, len(flat), BATCH) for row in self._ask(flat[at : at + BATCH])]
        if not vectors:
            return np.empty((0, self._dimension or 0), np.float32)
        rows, at = [], 0
        for group in windows:
            part = np.array(vectors[at : at + len(group)], np.float32)
            rows.append(sum_of_windows(part, [tokens for _, tokens in group]))
            at += len(group)
        return normalized_rows(np.stack(rows), [repr(text[:60]) for text in texts])

    def _windows(self, text: str) -> list[tuple[str, int]]:
        """Pieces of at most the maximum, each with its tokens (1 at least)."""
        room, measured = self.facts.max_length - _SPECIALS, ruler(text, self.tokenizer)
        cuts = [measured.character(at) for at in range(0, measured.tokens, room)]
        bounds = [*cuts, len(text)]
        pieces = itertools.pairwise(bounds)
        return [(text[a:b], max(measured.count(a, b), 1)) for a, b in pieces] or [(text, 1)]

    def _ask(self, texts: list[str]) -> list[list[float]]:
        import httpx

        address = f"{self._url}/v1/embeddings"
        try:
            answer = httpx.post(address, json={"model": self._model, "input": texts}, timeout=TIMEOUT_S)
        except httpx.HTTPError as err:
            raise EngineLostError(
                f"embedder {address}", f"{type(err).__name__}: {err}", "an answer", "start the server, then run again"
            ) from err
        if answer.status_code != 200:
            raise EngineError(
                f"embedder {address}", f"HTTP {answer.status_code}: {answer.text[:300]}", "HTTP 200", "look at its log"
            )
        return self._checked(answer, texts, address)

    def _checked(self, answer: Any, texts: list[str], address: str) -> list[list[float]]:
        try:
            rows = sorted(answer.json()["data"], key=lambda row: row["index"])
            vectors = [[float(value) for value in row["embedding"]] for row in rows]
        except (ValueError, KeyError, TypeError) as err:
            raise EngineError(
                f"embedder {address}", f"{type(err).__name__}: {err}", "OpenAI's form of embeddings", "check the url"
            ) from err
        lengths = {len(vector) for vector in vectors}
        wanted = {self._dimension} if self._dimension else lengths
        if len(vectors) != len(texts) or len(lengths) != 1 or lengths != wanted:
            raise EngineError(
                f"embedder {address}",
                f"{len(vectors)} vectors of {sorted(lengths)} numbers for {len(texts)} texts",
                f"one a text, of {sorted(wanted)} numbers",
                "check rag.embedder.model and dimension",
            )
        return vectors
