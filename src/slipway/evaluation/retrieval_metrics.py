"""Retrieval as the gate reads it: the metrics of one retriever over the questions that chose nothing.

    rag_recall       share of the gold characters within `rag.context_tokens` tokens: what arms are compared by
    rag_precision    share of the given characters that are gold
    rag_hit_1, _5, _10, rag_mrr_10, rag_ndcg_10   of the first chunks, whatever their length
    rag_tokens       tokens of context given

Only questions of the half `report` count: the other half chose the arm. Intervals are by document from 20 documents
on, else by question, as those of the choice.

The champion's index is asked the candidate's questions. Of one whose documents that index does not hold word for word
(they are new, or changed since) it has no values: its spans lie elsewhere there. So a paired rule compares both on what
both could find.
"""

from __future__ import annotations

import re
from typing import Any

from slipway.errors import StateError
from slipway.evaluation.metric import Item, Metric, aggregate
from slipway.evaluation.paired_rules import Evaluated
from slipway.store.artifacts import Choice, Retrieval
from slipway.system.json_files import read_json_lines

METRICS = (
    Metric("rag_recall", "answers within the context", "real"),
    Metric("rag_precision", "context that answers", "real"),
    Metric("rag_hit_1", "first chunk answers"),
    Metric("rag_hit_5", "one of 5 chunks answers"),
    Metric("rag_hit_10", "one of 10 chunks answers"),
    Metric("rag_mrr_10", "reciprocal rank of the first answer", "real"),
    Metric("rag_ndcg_10", "nDCG of 10 chunks", "real"),
    Metric("rag_tokens", "context given", "real", "lower", "tokens"),
)
FEWEST_DOCUMENTS = 20  # fewer are too few to resample or to count as clusters
_MEND = "delete the artifact and run again: it is made anew"


def retrieval_evaluated(search: Retrieval, choice: Choice | None, confidence: float) -> Evaluated:
    """Items and metrics of the retriever that `choice` named; without a choice of the only one. Raises StateError for
    an evaluation that lacks it."""
    rows = list(read_json_lines(search.path / "items.jsonl", f"{search.kind} {search.digest[:12]}", _MEND))
    retrievers = sorted({row["retriever"] for row in rows})
    wanted = str(choice.read_json("choice.json")["winner"]).rpartition("/")[2] if choice else ""
    if not wanted and len(retrievers) == 1:
        wanted = retrievers[0]
    if wanted not in retrievers:
        value = f"of {', '.join(retrievers) or 'nothing'}"
        raise StateError(f"evaluation {search.uri}", value, wanted or "one retriever, or a choice among them", _MEND)
    of_half = [row for row in rows if row["retriever"] == wanted and row["half"] == "report"]
    documents = {row["document"] for row in of_half}
    items = [_item(row, by_document=len(documents) >= FEWEST_DOCUMENTS) for row in of_half]
    return Evaluated(items, {"n": len(items), "metrics": [aggregate(one, items, confidence) for one in METRICS]})


def left_out(champion: Evaluated) -> int:
    """Questions of which the champion's index has no values."""
    return sum(1 for item in champion.items if item["metrics"][METRICS[0].name] is None)


def _item(row: dict[str, Any], *, by_document: bool) -> Item:
    """A question as an item of an evaluation."""
    values = {one.name: row[_column(one)] if row.get("same_text", True) else None for one in METRICS}
    return {
        "id": row["question"],
        "template": row["document"] if by_document else None,
        "answer": row["document"],
        "metrics": values,
    }


def _column(metric: Metric) -> str:
    """What an evaluation of retrieval calls it: `rag_hit_5` is `hit@5`."""
    return re.sub(r"_(\d+)$", r"@\1", metric.name.removeprefix("rag_"))
