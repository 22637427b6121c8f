"""The choice: what wins, what a tie is, what cannot be decided; simulated where it says how often."""

from __future__ import annotations

from typing import Any

import numpy as np

from slipway.config.rag import ChoiceConfig
from slipway.rag.choice import Arm, Asked, choose

PARAMS = ChoiceConfig(resamples=1000)
COSTS = {"embedded_tokens": 100.0, "indexed_tokens": 100.0, "chunks": 10.0}


def asked(count: int, documents: int = 16) -> list[Asked]:
    return [Asked(f"q{n}", f"d{n // 2 % documents}", "choose" if n % 2 == 0 else "report") for n in range(count)]


def arm(name: str, values: Any, questions: list[Asked], **costs: float) -> Arm:
    return Arm(name, {one.id: float(v) for one, v in zip(questions, values, strict=True)}, {**COSTS, **costs})


def rows(document: dict[str, Any]) -> dict[str, Any]:
    return {one["arm"]: one for one in document["arms"]}


def test_an_arm_that_is_better_everywhere_is_decided() -> None:
    questions, random = asked(200), np.random.default_rng(0)
    base = random.uniform(0, 0.8, 200)
    arms = [arm("first", base, questions), arm("better", base + 0.15, questions), arm("worst", base / 2, questions)]
    document = choose(arms, questions, PARAMS)
    assert (document["outcome"], document["winner"], document["tie"]) == ("decided", "better", ["better"])
    table = rows(document)
    assert table["first"]["apart"] and table["worst"]["apart"] and not table["better"]["apart"]
    assert abs(table["first"]["report_difference"]["value"] - 0.15) < 1e-9
    assert abs(table["better"]["report"]["value"] - np.mean(base[1::2]) - 0.15) < 1e-9
    assert document["resampled_by"] == "question" and document["questions_needed"] is None


def test_a_tie_goes_to_the_cheapest_in_the_order_asked_for() -> None:
    questions, random = asked(400), np.random.default_rng(1)
    base = random.uniform(0, 1, 400)
    noise = random.normal(0, 0.02, 400)
    arms = [
        arm("dear", base + 0.005, questions, embedded_tokens=300),
        arm("cheap", base + noise, questions, embedded_tokens=0, chunks=99),
        arm("poor", base - 0.2, questions, embedded_tokens=0, chunks=1),
    ]
    document = choose(arms, questions, PARAMS)
    assert (document["outcome"], document["winner"], document["best"]) == ("decided", "dear", "dear") or (
        document["outcome"],
        document["winner"],
    ) == ("tied", "cheap")
    assert set(document["tie"]) == {"dear", "cheap"}
    equal = choose([arms[0], arm("same", base + 0.005, questions, embedded_tokens=0)], questions, PARAMS)
    assert (equal["outcome"], equal["winner"]) == ("tied", "same")
    by_chunks = PARAMS.model_copy(update={"prefer": ["chunks", "embedded_tokens"]})
    fewer = [arm("many", base, questions, chunks=9), arm("few", base, questions, chunks=3, embedded_tokens=500)]
    assert choose(fewer, questions, by_chunks)["winner"] == "few"


def test_few_questions_decide_nothing_and_say_how_many_would() -> None:
    questions = asked(40)
    arms = [arm("first", np.zeros(40), questions), arm("other", np.ones(40), questions)]
    document = choose(arms, questions, PARAMS)
    assert (document["outcome"], document["winner"], document["questions_needed"]) == ("undecided", "first", 50)


def test_wide_intervals_decide_nothing_and_say_how_many_would() -> None:
    questions, random = asked(120), np.random.default_rng(2)
    base = random.integers(0, 2, 120)
    arms = [arm("first", base, questions), arm("other", 1 - base, questions)]
    document = choose(arms, questions, PARAMS.model_copy(update={"margin": 0.5}))
    assert (document["outcome"], document["winner"]) == ("undecided", "first")
    expected = 120 * (document["widest_in_tie"] / 0.045) ** 2
    assert abs(document["questions_needed"] - expected) <= 2


def test_a_first_arm_that_is_shown_to_be_worse_does_not_stay() -> None:
    questions, random = asked(120), np.random.default_rng(2)
    base = random.integers(0, 2, 120)
    arms = [
        arm("worse", base * 0.1, questions),
        arm("dear", base, questions, embedded_tokens=500),
        arm("cheap", 1 - base, questions),
    ]
    document = choose(arms, questions, PARAMS.model_copy(update={"margin": 0.3}))
    assert rows(document)["worse"]["apart"]
    assert (document["outcome"], document["winner"]) == ("undecided", "cheap")


def test_documents_are_resampled_from_twenty_on() -> None:
    questions = asked(200, documents=20)
    document = choose([arm("a", np.linspace(0, 1, 200), questions)], questions, PARAMS)
    assert (document["resampled_by"], document["documents"]) == ("document", 20)
    assert document["outcome"] == "decided"


def test_a_spoiled_retriever_never_wins_and_equal_arms_are_not_told_apart() -> None:
    """1,000 simulations of 470 questions: recall is a share, mostly 0 or 1; shuffled vectors find next to nothing."""
    random, params = np.random.default_rng(3), ChoiceConfig(resamples=200)
    questions = asked(470)
    spoiled_wins = winners_told_apart = 0
    for _ in range(1000):
        skill = random.beta(0.6, 0.4, 470)
        noise = [np.clip(skill + random.normal(0, 0.15, 470), 0, 1) for _ in range(3)]
        arms = [
            arm("spoiled", np.clip(skill - 0.12 + random.normal(0, 0.3, 470), 0, 1), questions, embedded_tokens=0),
            *(arm(f"arm{n}", values, questions) for n, values in enumerate(noise)),
        ]
        document = choose(arms, questions, params)
        spoiled_wins += document["winner"] == "spoiled"
        winners_told_apart += document["outcome"] == "decided"
    assert spoiled_wins / 1000 <= 0.05
    assert winners_told_apart / 1000 <= 0.05
