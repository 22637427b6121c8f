"""Why a gate did not pass, as far as the answers show it: the usual mistakes around a model, not in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from slipway.evaluation.json_metrics import parse
from slipway.evaluation.metric import CUT, Item

MANY = 0.3  # share of the answers from which on a fault is likely the cause
ALMOST_ALL = 0.9  # share of the answers that are one text
SHORTEST = 3  # characters of a reference that is looked for within an answer
SHOWN_CHARS = 60


def likely_causes(items: Sequence[Item]) -> list[str]:
    """What is wrong with many of the candidate's answers, each with its next step; empty when nothing usual is."""
    return list(_causes(items)) if items else []


def _causes(items: Sequence[Item]) -> Iterator[str]:
    n = len(items)
    blank = [item for item in items if not item["answer"].strip() and not item.get("calls")]
    thinking = [item for item in blank if item.get("reasoning") and item["finish"] == CUT]
    if len(thinking) >= MANY * n:
        yield (
            f"{len(thinking)} of {n} answers were cut while the model reasoned: raise evaluate.max_new_tokens, or use "
            "a chat template whose prompt asks for none, as the rows have none (`slipway data show`)"
        )
    elif len(blank) >= MANY * n:
        yield f"{len(blank)} of {n} answers are empty: look at the chat template and at server.log"
    cut = [item for item in items if item["finish"] == CUT]
    # the right answer and then more of it: the end-of-turn token was never learnt
    endless = [item for item in cut if _goes_on(item)]
    if len(endless) >= MANY * n:
        yield (
            f"{len(endless)} of {n} answers are right and then go on: the chat template has no end of turn that is "
            "learnt; look at `slipway data show`"
        )
    elif len(cut) >= MANY * n and len(thinking) < MANY * n:
        yield f"{len(cut)} of {n} answers were cut by max_new_tokens: raise evaluate.max_new_tokens"
    yield from _near_misses(items)
    yield from _unparsed(items, {item["id"] for item in cut} | {item["id"] for item in blank})


def _near_misses(items: Sequence[Item]) -> Iterator[str]:
    """Answers that are one for all, or right but for what stands around them or how they are spelt."""
    n = len(items)
    expected, answers = ([str(item[key]).strip() for item in items] for key in ("expected", "answer"))
    (most, count), *_ = Counter(answers).most_common(1)
    if most and count >= ALMOST_ALL * n and Counter(expected).most_common(1)[0][1] < ALMOST_ALL * n:
        yield (
            f"{count} of {n} answers are the same, {most[:SHOWN_CHARS]!a}: look at the loss, at train.lr and at how "
            "often the data has that answer"
        )
    whole = [item["finish"] != CUT for item in items]
    pairs = [pair for pair, ended in zip(zip(expected, answers, strict=True), whole, strict=True) if ended]
    around = sum(len(right) >= SHORTEST and right != answer and right in answer for right, answer in pairs)
    if around >= MANY * n:
        yield f"{around} of {n} answers hold the right one within other text: train longer, or measure `contains`"
    spelt = sum(right != answer and _bare(right) == _bare(answer) != "" for right, answer in pairs)
    if spelt >= MANY * n:
        yield (
            f"{spelt} of {n} answers are right but for case, punctuation or space: evaluate.ignore_case and "
            "evaluate.ignore_punctuation pass over that"
        )


def _bare(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


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
