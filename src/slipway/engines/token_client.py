"""Greedy answers of an engine as token ids, with the log-probability that it gave each of them.

| engine | asked at | ids | log-probabilities (before any bias, of the whole vocabulary) |
|---|---|---|---|
| llama.cpp | `/completion` | `return_tokens` | `n_probs`: `completion_probabilities[].logprob` |
| vllm, trtllm, trtllm-engine | `/v1/completions` | `return_token_ids` | `logprobs`: `logprobs.token_logprobs` |

Prompts go as token ids, so that no tokenizer of the engine stands between what it read and what a reference reads. All
go on past the end token (`ignore_eos`). An engine that gives no ids is refused: text cut into tokens again need not be
the tokens that were written. llama-server leaves out tokens at which a character is not whole yet: those have no
log-probability (None), and equal neighbours of them neither, since nothing says which of them is which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from slipway.agent.engine_key import OPEN, EngineAccess
from slipway.errors import EngineError
from slipway.system.progress import Progress

_STEP = "use an engine of docs/adr/0043-kernel-agreement.md, or engine.agreement.check=off"


class NoTokenIdsError(EngineError):
    """The engine answers, but not with ids and log-probabilities of what it wrote."""


@dataclass(frozen=True)
class WrittenTokens:
    """What an engine wrote after a prompt: ids, and log-probabilities in nats; None where it gave none."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    log_probabilities: tuple[float | None, ...]


class TokenClient:
    """Asks the engine `kind` that answers at `url` (".../v1") by the name `model`, as `access` says."""

    def __init__(self, kind: str, url: str, model: str, timeout_s: float = 600, access: EngineAccess = OPEN) -> None:
        self._native, self._model = kind == "llama.cpp", model
        base = url.rstrip("/")
        self._url = f"{base.removesuffix('/v1')}/completion" if self._native else f"{base}/completions"
        self._timeout_s = timeout_s
        self._access = access

    def write(
        self, prompts: Sequence[Sequence[int]], tokens: int, at_once: int, progress: Progress
    ) -> list[WrittenTokens]:
        """`tokens` greedy tokens after each prompt, `at_once` prompts at a time.

        Raises NoTokenIdsError for a refused request and for an answer without ids or log-probabilities, EngineError for
        a lost request and for an answer of another length.
        """
        written = []
        access = {"headers": self._access.headers(), "verify": self._access.context() or True}
        client = httpx.Client(timeout=self._timeout_s, trust_env=False, **access)  # type: ignore[arg-type]
        with client as http, ThreadPoolExecutor(at_once) as pool:
            for answer in pool.map(lambda prompt: self._ask(http, prompt, tokens), prompts):
                written.append(answer)
                progress.update("engine writes", len(written) * tokens, len(prompts) * tokens, "tokens")
        return written

    def _ask(self, http: httpx.Client, prompt: Sequence[int], tokens: int) -> WrittenTokens:
        try:
            answer = http.post(self._url, json=self._body(prompt, tokens))
            document = answer.raise_for_status().json()
        except httpx.HTTPStatusError as err:
            problem = f"status {err.response.status_code}: {err.response.text[:300]}"
            raise NoTokenIdsError(f"endpoint {self._url}", problem, "an answer with token ids", _STEP) from err
        except (httpx.TransportError, ValueError) as err:
            problem = f"{type(err).__name__}: {str(err)[:300]}"
            raise EngineError(f"endpoint {self._url}", problem, "an answer", "read the server's log") from err
        try:
            ids, log_probabilities = _native(document) if self._native else _openai(document)
        except (KeyError, IndexError, TypeError, AttributeError) as err:
            problem = f"no token ids or log-probabilities in its answer ({type(err).__name__}: {str(err)[:100]})"
            raise NoTokenIdsError(f"endpoint {self._url}", problem, "both, for every token", _STEP) from err
        if len(ids) != tokens:
            problem = f"{len(ids)} tokens, asked for {tokens} past the end token"
            raise EngineError(f"endpoint {self._url}", problem, "as many as asked for", "raise engine.context")
        return WrittenTokens(tuple(prompt), tuple(ids), tuple(log_probabilities))

    def _body(self, prompt: Sequence[int], tokens: int) -> dict[str, Any]:
        common = {"prompt": list(prompt), "temperature": 0, "ignore_eos": True}
        if self._native:
            return {**common, "n_predict": tokens, "n_probs": 1, "return_tokens": True, "cache_prompt": False}
        return {**common, "model": self._model, "max_tokens": tokens, "logprobs": 1, "return_token_ids": True}


def _native(document: Mapping[str, Any]) -> tuple[list[int], list[float | None]]:
    """llama-server's answer: ids of every token; log-probabilities of most, in the same order."""
    ids = [int(one) for one in document["tokens"]]
    given = [(int(one["id"]), float(one["logprob"])) for one in document["completion_probabilities"]]
    known = [one for one, _ in given]
    first, last = _earliest(ids, known), [len(ids) - 1 - at for at in reversed(_earliest(ids[::-1], known[::-1]))]
    log_probabilities: list[float | None] = [None] * len(ids)
    for earliest, latest, (_, value) in zip(first, last, given, strict=True):
        if earliest == latest:  # else one of several equal tokens in a row of which some have none
            log_probabilities[earliest] = value
    return ids, log_probabilities


def _earliest(ids: Sequence[int], known: Sequence[int]) -> list[int]:
    """Where each of `known`, some of `ids` in their order, stands at the earliest."""
    places, at = list[int](), -1
    for one in known:
        at = next((i for i in range(at + 1, len(ids)) if ids[i] == one), len(ids))
        if at == len(ids):
            raise KeyError("log-probabilities of tokens that are not in the answer")
        places.append(at)
    return places


def _openai(document: Mapping[str, Any]) -> tuple[list[int], list[float | None]]:
    choice = document["choices"][0]
    ids, values = choice["token_ids"], choice["logprobs"]["token_logprobs"]
    if len(ids) != len(values):
        raise KeyError(f"{len(ids)} ids, {len(values)} log-probabilities")
    return [int(one) for one in ids], [float(one) for one in values]
