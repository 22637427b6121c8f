"""Why a gate did not pass, as far as the answers show it: the usual mistakes around a model, not in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from slipway.evaluation.answer_rules import CUT
from slipway.evaluation.json_metrics import parse
from slipway.evaluation.metric import Item

MANY = 0.3  # share of the answers from which on a fault is likely the cause
SHOWN_CHARS = 60


def likely_causes(items: Sequence[Item]) -> list[str]:
    """What is wrong with many of the candidate's answers, each with its next step; empty when nothing usual is."""
    return list(_causes(items)) if items else []


def _causes(items: Sequence[Item]) -> Iterator[str]:
    n = len(items)
    blank = [item for item in items if not item["answer"].strip() and not item.get("calls")]
    if len(blank) >= MANY * n:
        yield f"{len(blank)} of {n} answers are empty: look at the chat template and at server.log"
    cut = [item for item in items if item["finish"] == CUT]
    # the right answer and then more of it: the end-of-turn token was never learnt
    endless = [item for item in cut if _goes_on(item)]
    if len(endless) >= MANY * n:
        yield (
            f"{len(endless)} of {n} answers are right and then go on: the chat template has no end of turn that is "
            "learnt; look at `slipway data show`"
        )
    elif len(cut) >= MANY * n:
        yield f"{len(cut)} of {n} answers were cut by max_new_tokens: raise evaluate.max_new_tokens"
    yield from _unparsed(items, {item["id"] for item in cut} | {item["id"] for item in blank})


def _goes_on(item: Item) -> bool:
    expected = str(item["expected"]).strip()
    return bool(expected) and str(item["answer"]).lstrip().startswith(expected)


def _unparsed(items: Sequence[Item], explained: set[str]) -> Iterator[str]:
    """Where JSON is expected and hardly any answer is."""
    wanted = [item for item in items if item["id"] not in explained and _is_structure(item["expected"])]
    wrong = [item for item in wanted if not parse(item["answer"])[0]]
    if wanted and len(wrong) >= (1 - MANY) * len(wanted):
        first = ascii(wrong[0]["answer"][:SHOWN_CHARS])
        count = "no answer parses" if len(wrong) == len(wanted) else f"{len(wrong)} of {len(wanted)} do not parse"
        yield f"JSON is expected and {count} (the first begins {first}): look at items.jsonl of the evaluation"


def _is_structure(text: Any) -> bool:
    return isinstance(parse(str(text))[1], dict | list)
