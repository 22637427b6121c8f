"""Memory that retrieval takes beside an engine: one process that embeds questions and searches an index, on the CPU.

    process    0.3 GB: Python, torch, transformers, FAISS (0.27 measured)
    embedder   parameters x 4 bytes, fp32 (22.7 and 109 million: to 1%), and 32 MB for the question that is embedded (17
               and 23 MB for 512 tokens)
    index      chunks x (4 bytes x dimension + 3.3 kB: positions and the lexical index, as Python holds them) and the
               text (3.0 and 3.1 kB measured, with 20,000 and 5,000 chunks of 930 characters)

Measured as what a process alone holds (USS), torch 2.13 on an x86 CPU, BERT of 6 layers x 384 and of 12 x 768. How many
chunks there will be is an estimate: 4 bytes a token, 20 tokens a sentence, a limit filled to two thirds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import assert_never

from slipway.config.rag import FixedStrategy, RecursiveStrategy, SemanticStrategy, Strategy, WindowStrategy

PROCESS_BYTES, QUESTION_BYTES, CHUNK_BYTES = 0.3e9, 32e6, 3300.0
FP32_BYTES = 4.0
TOKEN_BYTES, SENTENCE_TOKENS, FILLED = 4.0, 20.0, 2 / 3


@dataclass(frozen=True)
class RetrievalMemory:
    """Bytes of each part; `chunks`: of how many the index was counted."""

    process: float
    embedder: float
    index: float
    chunks: int

    @property
    def total(self) -> float:
        """What must fit beside the engine."""
        return self.process + self.embedder + self.index


def retrieval_memory(*, parameters: float, dimension: int, chunks: int, text_bytes: float) -> RetrievalMemory:
    """Memory of an embedder of so many parameters (0: a server elsewhere) and an index of `chunks` vectors over
    `text_bytes` of documents, asked one question at a time."""
    embedder = parameters * FP32_BYTES + QUESTION_BYTES if parameters else 0.0
    index = chunks * (dimension * FP32_BYTES + CHUNK_BYTES) + text_bytes
    return RetrievalMemory(PROCESS_BYTES, embedder, index, chunks)


def chunk_count(strategy: Strategy, text_bytes: float) -> int:
    """About how many chunks a strategy cuts `text_bytes` of documents into."""
    tokens = text_bytes / TOKEN_BYTES
    sentences = tokens / SENTENCE_TOKENS
    match strategy:
        case FixedStrategy():
            chunks = tokens / (strategy.tokens - strategy.overlap)
        case RecursiveStrategy():
            chunks = tokens / (strategy.tokens * FILLED)
        case SemanticStrategy():
            chunks = max(sentences * (1 - strategy.percentile / 100), tokens / (strategy.max_tokens * FILLED))
        case WindowStrategy():
            chunks = sentences / strategy.sentences
        case other:
            assert_never(other)
    return max(1, math.ceil(chunks))
