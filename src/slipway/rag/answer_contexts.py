"""The contexts that a question is asked with, arm by arm: retrieved, without its documents, none, and its gold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from slipway.rag.answer_prompt import Passage
from slipway.rag.chunking import Chunk
from slipway.rag.questions import Question
from slipway.rag.span_metrics import Piece, context, overlap
from slipway.rag.tokens import Ruler

Arm = Literal["retrieved", "without", "closed", "gold"]
Context = tuple[list[Passage], bool]  # passages, and whether they hold any of the gold


def picked(questions: Sequence[Question], most: int) -> list[Question]:
    """At most `most` of the questions that chose nothing, evenly spread over them."""
    reporting = [one for one in questions if one.half == "report"]
    count = min(most, len(reporting))
    return [reporting[at * len(reporting) // count] for at in range(count)]


def contexts(
    question: Question,
    ranking: Sequence[Chunk],
    arms: Sequence[Arm],
    budget: int,
    documents: Mapping[str, str],
    rulers: Mapping[str, Ruler],
) -> dict[Arm, Context]:
    """The context of each arm within `budget` tokens. `ranking`: chunks as the retriever ranks them; `documents`,
    `rulers`: text and token positions by document."""
    gold = [(span.document, span.start, span.end) for span in question.spans]
    own = {span.document for span in question.spans}
    others = [chunk for chunk in ranking if chunk.document not in own]
    as_chunks = [Chunk(name, start, end, start, end, rulers[name].count(start, end)) for name, start, end in gold]
    rankings: dict[Arm, Sequence[Chunk]] = {"retrieved": ranking, "without": others, "closed": [], "gold": as_chunks}
    return {arm: _context(rankings[arm], gold, budget, documents, rulers) for arm in arms}


def _context(
    ranking: Sequence[Chunk],
    gold: Sequence[Piece],
    budget: int,
    documents: Mapping[str, str],
    rulers: Mapping[str, Ruler],
) -> Context:
    pieces, _ = context(ranking, budget, rulers)
    passages = [Passage(name, documents[name][start:end]) for name, start, end in pieces]
    return passages, bool(pieces) and overlap(gold, pieces) > 0
