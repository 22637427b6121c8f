"""Greedy chat answers as a user gets them, with the log-probability of each token and of the likeliest others.

Asked at `/v1/chat/completions` without streaming (`logprobs`, `top_logprobs`): llama-server, vLLM and TensorRT-LLM
answer alike. Tokens are the engine's own texts of them. `TokenClient` asks with token ids and past every template; this
asks what is served, tokenizer and template included.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from math import isfinite
from time import perf_counter
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict

from slipway.agent.reasoning_field import reasoning_of
from slipway.engines.chat_client import Message, on_the_wire
from slipway.errors import EngineError, EngineLostError
from slipway.system.retry import until_answered

ALTERNATIVES = 5  # tokens whose log-probabilities are kept at every position; vLLM gives 20 at most


class NoProbabilitiesError(EngineError):
    """The engine answers, but refuses or leaves out log-probabilities."""


class TokenAnswer(BaseModel):
    """One answer. `text`: reasoning, text and calls of tools in one; `finish`: OpenAI's finish_reason; `tokens`: their
    texts, empty where the engine was not asked for them; `log_probabilities`: nats, null where the engine gave none;
    `alternatives`: at each position the likeliest tokens with theirs; `count`: tokens by the server; `seconds`."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    text: str
    finish: str
    tokens: tuple[str, ...] = ()
    log_probabilities: tuple[float | None, ...] = ()
    alternatives: tuple[tuple[tuple[str, float], ...], ...] = ()
    count: int = 0
    seconds: float = 0.0


class ProbabilityClient:
    """Asks the engine that answers at `url` (".../v1") by the name `model`. Thread-safe."""

    def __init__(
        self, url: str, model: str, timeout_s: float, key: str | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        self._url, self._model = f"{url.rstrip('/')}/chat/completions", model
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        limits = httpx.Limits(max_keepalive_connections=0)
        verify = context or True
        self._http = httpx.Client(timeout=timeout_s, trust_env=False, limits=limits, headers=headers, verify=verify)

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    def ask(
        self,
        messages: Sequence[Message],
        max_tokens: int,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        fixed_length: bool = False,
        probabilities: bool = True,
    ) -> TokenAnswer:
        """Greedy answer to `messages`; `fixed_length` goes on past the end token, `probabilities` asks for them.

        Raises NoProbabilitiesError when they are refused or missing, EngineError when the engine does not answer twice,
        refuses, or gives a log-probability that is not a number.
        """
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [on_the_wire(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": 0,
            **({"logprobs": True, "top_logprobs": ALTERNATIVES} if probabilities else {}),
            **({"ignore_eos": True} if fixed_length else {}),
            **({"tools": list(tools)} if tools else {}),
        }
        begin = perf_counter()
        response = self._post(json.dumps(body).encode(), probabilities)
        seconds = perf_counter() - begin
        try:
            return _answer(response.json(), probabilities, seconds)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as err:
            problem = f"{type(err).__name__}: {str(err)[:100]} in {response.text[:200]}"
            raise EngineError(f"endpoint {self._url}", problem, "a chat completion", "read the engine's log") from err

    def _post(self, content: bytes, probabilities: bool) -> httpx.Response:
        try:
            response = until_answered(
                lambda: self._http.post(self._url, content=content), httpx.TransportError, tries=2
            )
        except httpx.TransportError as err:
            problem = f"{type(err).__name__}: {str(err)[:300]}"
            raise EngineLostError(f"endpoint {self._url}", problem, "an answer", "read the engine's log") from err
        if response.status_code == httpx.codes.OK:
            return response
        problem = f"HTTP {response.status_code}: {response.text[:300]}"
        refused = probabilities and response.status_code in (400, 422)
        kind = NoProbabilitiesError if refused else EngineError
        raise kind(f"endpoint {self._url}", problem, "an answer", "read the engine's log")


def _answer(document: Mapping[str, Any], probabilities: bool, seconds: float) -> TokenAnswer:
    choice = document["choices"][0]
    message = choice["message"]
    calls = [f"{call['function']['name']}({call['function']['arguments']})" for call in message.get("tool_calls") or ()]
    text = "".join([reasoning_of(message), message.get("content") or "", *calls])
    count = int((document.get("usage") or {}).get("completion_tokens") or 0)
    answer = TokenAnswer(text=text, finish=str(choice["finish_reason"]), count=count, seconds=round(seconds, 4))
    if not probabilities:
        return answer
    entries = (choice.get("logprobs") or {}).get("content")
    if entries is None or (not entries and count > 1):
        raise NoProbabilitiesError("engine", "an answer without log-probabilities", "some for its tokens", "see docs")
    return answer.model_copy(
        update={
            "tokens": tuple(str(entry["token"]) for entry in entries),
            "log_probabilities": tuple(_finite(entry.get("logprob"), at) for at, entry in enumerate(entries)),
            "alternatives": tuple(
                tuple((str(one["token"]), max(float(one["logprob"]), -1e4)) for one in entry.get("top_logprobs") or ())
                for entry in entries
            ),
        }
    )


def _finite(value: Any, at: int) -> float | None:
    if value is None:
        return None
    if not isfinite(value):
        next_step = "the engine's kernels overflow: read its log, try another backend"
        raise EngineError("engine", f"log-probability {value} of token {at}", "finite numbers", next_step)
    return float(value)
