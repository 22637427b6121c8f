"""Held to what processes took: BERT of 12 x 768 beside its program, and indices of 5,000 and 20,000 chunks."""

from __future__ import annotations

import pytest

from slipway.config.rag import FixedStrategy, RecursiveStrategy, SemanticStrategy, Strategy, WindowStrategy
from slipway.planning.retrieval_memory import chunk_count, retrieval_memory


@pytest.mark.parametrize(
    "parameters, dimension, chunks, text, measured",
    [
        (109_482_240, 768, 0, 0.0, 749e6),  # USS of the process with the model, after 512 tokens
        (22_713_216, 384, 0, 0.0, 407e6),
        (0, 768, 5_000, 4.665e6, 271e6 + 35.7e6),  # the program, and what opening the index added
        (0, 768, 20_000, 18.65e6, 271e6 + 139.7e6),
    ],
)
def test_the_formula_is_a_little_more_than_what_was_measured(
    parameters: float, dimension: int, chunks: int, text: float, measured: float
) -> None:
    plan = retrieval_memory(parameters=parameters, dimension=dimension, chunks=chunks, text_bytes=text)
    assert measured <= plan.total <= 1.12 * measured


def test_an_embedder_elsewhere_takes_nothing_here() -> None:
    assert retrieval_memory(parameters=0, dimension=1024, chunks=10, text_bytes=100).embedder == 0


@pytest.mark.parametrize(
    "strategy, chunks",
    [
        (FixedStrategy(tokens=256, overlap=56), 1250),  # 250,000 tokens in steps of 200
        (RecursiveStrategy(tokens=750), 500),
        (WindowStrategy(sentences=5), 2500),  # of 12,500 sentences
        (SemanticStrategy(percentile=90, max_tokens=512), 1250),
        (SemanticStrategy(percentile=99.9, max_tokens=375), 1000),  # never cut by meaning: by its limit
    ],
)
def test_chunks_of_a_megabyte(strategy: Strategy, chunks: int) -> None:
    assert abs(chunk_count(strategy, 1e6) - chunks) <= 1


def test_a_document_is_a_chunk_at_least() -> None:
    assert chunk_count(RecursiveStrategy(tokens=512), 1) == 1
