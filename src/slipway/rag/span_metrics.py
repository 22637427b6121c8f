"""What a ranking of chunks is worth for a question whose gold spans are known, in characters.

    context         chunks in rank order until `budget` tokens are used; the last one is cut where they end
    recall          share of the gold characters in the context, each counted once
    precision       share of the context's characters that are gold, each counted once
    hit@k           1 when one of the first k chunks covers half of the gold, or lies half in it
    mrr@10          1 / rank of the first such chunk among ten, else 0
    ndcg@10         gain of a chunk = share of the gold that it covers first; sum of gain / log2(1 + rank); the best
                    possible is all of the gold at rank 1, which is 1

Recall at an equal budget is what arms are compared by: hit@k, MRR and nDCG at an equal k favour long chunks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from slipway.rag.chunking import Chunk
from slipway.rag.questions import Question
from slipway.rag.tokens import Ruler

HITS, TOP = (1, 5, 10), 10
Piece = tuple[str, int, int]  # document, first character, the one after the last
NAMES = ("recall", "precision", *(f"hit@{k}" for k in HITS), "mrr@10", "ndcg@10", "tokens")


def context(ranking: Sequence[Chunk], budget: int, rulers: Mapping[str, Ruler]) -> tuple[list[Piece], int]:
    """The contexts of the first chunks within `budget` tokens, and the tokens used."""
    pieces, used = list[Piece](), 0
    for chunk in ranking:
        room = budget - used
        if room <= 0:
            break
        end, tokens = chunk.context_end, chunk.tokens
        if tokens > room:
            ruler = rulers[chunk.document]
            end = ruler.character(ruler.token(chunk.context_start) + room)
            tokens = room
        pieces.append((chunk.document, chunk.context_start, end))
        used += tokens
    return pieces, used


def score(question: Question, ranking: Sequence[Chunk], budget: int, rulers: Mapping[str, Ruler]) -> dict[str, float]:
    """The metrics of one ranking, by the names of `NAMES`."""
    gold = [(span.document, span.start, span.end) for span in question.spans]
    pieces, used = context(ranking, budget, rulers)
    gold_length, given = covered(gold), covered(pieces)
    inside = overlap(gold, pieces)
    top = [(chunk.document, chunk.context_start, chunk.context_end) for chunk in ranking[:TOP]]
    hits = [_is_hit(gold, gold_length, piece) for piece in top]
    first = next((rank for rank, hit in enumerate(hits, 1) if hit), None)
    return {
        "recall": inside / gold_length,
        "precision": inside / given if given else 0.0,
        **{f"hit@{k}": float(any(hits[:k])) for k in HITS},
        "mrr@10": 1 / first if first else 0.0,
        "ndcg@10": _ndcg(gold, gold_length, top),
        "tokens": float(used),
    }


def covered(pieces: Sequence[Piece]) -> int:
    """Characters in the union of the pieces."""
    return sum(end - start for _, start, end in _union(pieces))


def overlap(ours: Sequence[Piece], theirs: Sequence[Piece]) -> int:
    """Characters in both unions."""
    return covered(ours) + covered(theirs) - covered([*ours, *theirs])


def _union(pieces: Sequence[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for name, start, end in sorted(pieces):
        if joined and joined[-1][0] == name and start <= joined[-1][2]:
            joined[-1] = (name, joined[-1][1], max(joined[-1][2], end))
        else:
            joined.append((name, start, end))
    return joined


def _is_hit(gold: Sequence[Piece], gold_length: int, piece: Piece) -> bool:
    inside = overlap(gold, [piece])
    return inside > 0 and (inside >= gold_length / 2 or inside >= (piece[2] - piece[1]) / 2)


def _ndcg(gold: Sequence[Piece], gold_length: int, top: Sequence[Piece]) -> float:
    total, before = 0.0, 0
    for rank in range(1, len(top) + 1):
        now = overlap(gold, top[:rank])
        total += (now - before) / gold_length / math.log2(1 + rank)
        before = now
    return total
