"""Answers over retrieved text, without a judge: what can be checked word by word.

The reference of a question is the text of its gold spans. An arm is a context that the same question is asked with:

    retrieved   what the retriever of the run finds, within the budget
    without     the same, with the documents of the question taken out: nothing in it answers
    closed      no passage
    gold        the gold spans

    answer_f1               2 common / (words of the answer + words of the reference), retrieved
    answer_contains         a reference of at most SHORT words stands in the answer, retrieved
    answer_supported        share of the answer's words that stand in its passages, retrieved, unless it refuses
    answer_cites            names passages of the question's documents and no others, where one was retrieved
    answer_refuses          says that it does not know where nothing relevant was given: the retrieved context where it
                            holds none of the gold, else the arm `without`
    answer_refuses_known    says so although a part of the gold was retrieved
    answer_f1_closed, answer_f1_gold   answer_f1 of the other arms: what retrieval adds, and what it can add at most
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.evaluation.metric import Item, Metric, aggregate
from slipway.evaluation.overlap_metrics import words
from slipway.rag.answer_prompt import Passage, cited, refuses, without_citations

METRICS = (
    Metric("answer_f1", "words of the reference, retrieved", "real"),
    Metric("answer_contains", "short reference in the answer"),
    Metric("answer_supported", "words that the passages hold", "real"),
    Metric("answer_cites", "cites the right documents alone"),
    Metric("answer_refuses", "refuses without an answer"),
    Metric("answer_refuses_known", "refuses with an answer", direction="lower"),
    Metric("answer_f1_closed", "words of the reference, no passages", "real"),
    Metric("answer_f1_gold", "words of the reference, gold passages", "real"),
)
SHORT = 12  # words: a longer reference is not repeated word for word
FEWEST_DOCUMENTS = 20  # fewer are no clusters


@dataclass(frozen=True)
class Asked:
    """A question with its reference: `documents` hold its gold."""

    id: str
    text: str
    reference: str
    documents: frozenset[str]


@dataclass(frozen=True)
class Answered:
    """An answer of one arm: its passages, and whether any of the gold is among them."""

    text: str
    passages: Sequence[Passage]
    relevant: bool
    finish: str = "stop"
    tokens: int = 0
    retries: int = 0


def score(question: Asked, arms: Mapping[str, Answered], phrase: str) -> Item:
    """One line of `items.jsonl`. `arms`: the answers by arm, `retrieved` always; `phrase`: what a refusal holds."""
    retrieved = arms["retrieved"]
    refused = refuses(retrieved.text, phrase)
    unanswerable = arms.get("without") if retrieved.relevant else retrieved
    values: dict[str, float | None] = {
        "answer_f1": f1(retrieved.text, question.reference),
        "answer_contains": _contains(retrieved.text, question.reference),
        "answer_supported": None if refused else _supported(retrieved),
        "answer_cites": float(_cites(retrieved, question.documents)) if _given(retrieved, question) else None,
        "answer_refuses": float(refuses(unanswerable.text, phrase)) if unanswerable else None,
        "answer_refuses_known": float(refused) if retrieved.relevant else None,
        **{
            f"answer_f1_{arm}": f1(one.text, question.reference) for arm in ("closed", "gold") if (one := arms.get(arm))
        },
    }
    return {
        "id": question.id,
        "label": "relevant" if retrieved.relevant else "nothing relevant",
        "request": question.text,
        "expected": question.reference,
        "answer": retrieved.text,
        "documents": sorted(question.documents),
        "arms": {arm: _shown(one) for arm, one in arms.items()},
        "metrics": values,
        "finish": retrieved.finish,
        "tokens": retrieved.tokens,
        "retries": sum(one.retries for one in arms.values()),
    }


def summarize(items: Sequence[Item], confidence: float) -> dict[str, Any]:
    """`metrics.json`: the metrics with intervals, by document where there are enough, else by question."""
    documents = {item["documents"][0] for item in items}
    clustered = len(documents) >= FEWEST_DOCUMENTS
    rows = [{**item, "template": item["documents"][0]} for item in items] if clustered else list(items)
    return {
        "n": len(items),
        "metrics": [aggregate(metric, rows, confidence) for metric in METRICS],
        "confidence": confidence,
        "finish": dict(sorted(Counter(str(item["finish"]) for item in items).items())),
        "answer_tokens": sum(item["tokens"] for item in items) / len(items),
        "empty": sum(not item["answer"].strip() for item in items),
        "retries": sum(item["retries"] for item in items),
    }


def f1(answer: str, reference: str) -> float:
    """Harmonic mean of the shares of common words, each counted as often as it stands on both sides."""
    ours, theirs = words(without_citations(answer)), words(reference)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def _contains(answer: str, reference: str) -> float | None:
    wanted, ours = words(reference), words(without_citations(answer))
    if not 0 < len(wanted) <= SHORT:
        return None
    return float(any(ours[at : at + len(wanted)] == wanted for at in range(len(ours) - len(wanted) + 1)))


def _supported(answered: Answered) -> float | None:
    ours = words(without_citations(answered.text))
    held = {word for passage in answered.passages for word in words(passage.text)}
    return sum(word in held for word in ours) / len(ours) if ours else None


def _given(answered: Answered, question: Asked) -> bool:
    """Whether a passage of the question's documents was given, so that there is something right to cite."""
    return any(passage.document in question.documents for passage in answered.passages)


def _cites(answered: Answered, documents: frozenset[str]) -> bool:
    numbers = cited(answered.text)
    named = [answered.passages[number - 1].document for number in numbers if 0 < number <= len(answered.passages)]
    return bool(numbers) and len(named) == len(numbers) and set(named) <= documents


def _shown(answered: Answered) -> dict[str, Any]:
    """An arm in `items.jsonl`: the documents of its passages in their order, and the answer."""
    documents = [passage.document for passage in answered.passages]
    return {"answer": answered.text, "passages": documents, "relevant": answered.relevant, "finish": answered.finish}
