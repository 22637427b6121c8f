"""What one streamed answer tells of its tokens: when each arrived, counted by the server and not by its text.

    TTFT = first piece of text (or reasoning, or a tool call) - request sent
    ITL  = time between two chunks that brought tokens, divided by the tokens that the later one brought
    TPOT = (last token - first token) / (tokens - tokens of the first chunk)

A chunk may hold many tokens (speculative decoding) or none (the first one, which only says the role). Counts come from
`usage` in every chunk (vLLM and TensorRT-LLM with `continuous_usage_stats`) or `timings.predicted_n` (llama-server with
`timings_per_token`). A server that sends neither is taken to send one token a piece, which the usage at the end of the
answer must confirm. Text is never tokenized again: that has been wrong by a factor of seven (vllm-project/vllm#45739).
What the first chunk holds beyond its first token has no time of its own and is in no interval. Tokens at the end that
have no text (the one that ends an answer, bytes that are no whole character) are in llama-server's usage alone: they
count as come with the end, up to `HELD_BACK` of them, or all where the usage is the number of tokens that was asked
for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from slipway.agent.reasoning_field import reasoning_of

HELD_BACK = 4  # a character has at most four bytes: three tokens wait for the fourth, and one may end the answer


class AnswerFailedError(Exception):
    """One request without a whole answer; the text says why, in at most a few hundred characters."""


@dataclass(frozen=True)
class Chunk:
    """One event of a stream: when it came (seconds), whether it held text, the server's count up to it, its end."""

    at: float
    piece: bool
    count: int | None
    finish: str


@dataclass
class StreamTimings:
    """The chunks of one answer to a request for `asked` tokens that was sent at `sent` (seconds of a steady clock).
    `by_timings`: whether the server counts under `timings`, as llama-server does."""

    asked: int
    sent: float
    chunks: list[Chunk] = field(default_factory=list)
    usage: int | None = None
    end: float | None = None
    prompt: int = 0
    by_timings: bool = False

    def add(self, event: Mapping[str, Any], now: float) -> None:
        """Take in an event that arrived `now`; raises AnswerFailedError for one that is no part of an answer."""
        choices, usage, timings = event.get("choices") or [], event.get("usage") or {}, event.get("timings") or {}
        if not isinstance(choices, list) or not isinstance(usage, Mapping) or not isinstance(timings, Mapping):
            raise AnswerFailedError(f"an event that is no chat completion chunk: {str(event)[:200]}")
        total = usage.get("completion_tokens")
        if isinstance(total, int):
            self.usage = total
        if isinstance(prompt := usage.get("prompt_tokens"), int):
            self.prompt = prompt
        if not choices:
            return
        count = total if isinstance(total, int) else timings.get("predicted_n")
        self.by_timings |= not isinstance(total, int) and isinstance(count, int)
        piece = any(_holds_piece(choice.get("delta") or {}) for choice in choices)
        finish = next((str(choice["finish_reason"]) for choice in choices if choice.get("finish_reason")), "")
        self.chunks.append(Chunk(now, piece, count if isinstance(count, int) else None, finish))

    def close(self, now: float) -> None:
        """The stream said that it is done; raises AnswerFailedError when the answer cannot be counted."""
        if not any(chunk.finish for chunk in self.chunks):
            raise AnswerFailedError(f"the stream ended after {len(self.chunks)} chunks without a finish reason")
        if self.usage is None:
            raise AnswerFailedError("no usage in the stream: its tokens cannot be counted")
        if not self.arrivals():
            reason = f"{self.usage} tokens without text, of which nobody said when they came"
            raise AnswerFailedError(reason if self.usage else "an answer of no tokens")
        self.end = now

    @property
    def by_server(self) -> bool:
        """Whether the server counted in every chunk with text, or in every one of an answer without any; usage in the
        last one alone is no time of a token."""
        silent = not any(chunk.piece for chunk in self.chunks)
        inner = [chunk for chunk in self.chunks if (chunk.piece or (silent and chunk.count)) and not chunk.finish]
        return bool(inner) and all(chunk.count is not None for chunk in inner)

    def arrivals(self) -> list[tuple[float, int]]:
        """(time, tokens that came then) of every chunk that brought tokens, of a running answer too."""
        if not self.by_server:
            return [(chunk.at, 1) for chunk in self.chunks if chunk.piece]
        counted, so_far = [], 0
        for chunk in self.chunks:
            if chunk.count is not None and chunk.count > so_far:
                counted.append((chunk.at, chunk.count - so_far))
                so_far = chunk.count
        silent = (self.usage or 0) - so_far if self.by_timings else 0
        plausible = silent <= HELD_BACK or self.usage == self.asked
        return [*counted, (self.chunks[-1].at, silent)] if silent > 0 and plausible else counted

    @property
    def counted(self) -> int:
        """Tokens counted chunk by chunk; `usage` is the server's own sum."""
        return sum(tokens for _, tokens in self.arrivals())

    @property
    def stopped(self) -> bool:
        """Whether the model ended by itself; the token that says so is in some servers' usage and has no text."""
        return any(chunk.finish == "stop" for chunk in self.chunks)

    @property
    def ttft_s(self) -> float:
        """Seconds to the first piece of text; to the first token where no chunk has text."""
        first = next((chunk.at for chunk in self.chunks if chunk.piece), None)
        return (first if first is not None else self.arrivals()[0][0]) - self.sent

    def gaps_s(self) -> list[float]:
        """Seconds before every token that came after the first chunk's."""
        return [
            (later - earlier) / tokens
            for (earlier, _), (later, tokens) in pairwise(self.arrivals())
            for _ in range(tokens)
        ]

    @property
    def tpot_s(self) -> float | None:
        """Mean seconds per token after the first chunk; None for an answer of one chunk."""
        gaps = self.gaps_s()
        return sum(gaps) / len(gaps) if gaps else None


def _holds_piece(delta: Mapping[str, Any]) -> bool:
    return bool(delta.get("content") or reasoning_of(delta) or delta.get("tool_calls"))
