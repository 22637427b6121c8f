"""Classes: accuracy, and macro-F1 as values per item, against scikit-learn and the jackknife itself."""

from __future__ import annotations

import json
from random import Random
from statistics import fmean, variance

import pytest
from sklearn.metrics import f1_score

from slipway.evaluation.label_metrics import accuracy, class_reader, influence_values, macro_f1
from slipway.evaluation.scorer import Example

BY_KEY = class_reader("intent", str.strip)
BY_TEXT = class_reader(None, str.strip)


def example(expected: str, answer: str) -> Example:
    return Example({"messages": [{"role": "assistant", "content": expected}]}, answer)


@pytest.mark.parametrize(
    ("text", "label"),
    [('{"intent":"On"}', "On"), ('{"intent":1}', None), ('{"x":"On"}', None), ("On", None), ("[]", None), ("", None)],
)
def test_the_class_is_a_key_of_the_json(text: str, label: str | None) -> None:
    assert BY_KEY(text) == label


def test_without_a_key_the_whole_answer_is_the_class() -> None:
    assert (BY_TEXT(" positive\n"), BY_TEXT("  ")) == ("positive", None)


@pytest.mark.parametrize(
    ("expected", "answer", "value"),
    [("On", '{"intent":"On","x":1}', 1), ("On", '{"intent":"Off"}', 0), ("On", "no", 0)],
)
def test_accuracy_compares_classes(expected: str, answer: str, value: float) -> None:
    assert accuracy(BY_KEY).score(example(json.dumps({"intent": expected}), answer)) == value


def test_an_expected_answer_without_a_class_is_left_out() -> None:
    assert accuracy(BY_KEY).score(example("free text", "free text")) is None


def draw(seed: int, n: int = 60) -> list[tuple[str, str | None]]:
    random = Random(seed)
    pairs: list[tuple[str, str | None]] = []
    for _ in range(n):
        label = random.choice("aaabbc")
        pairs.append((label, label if random.random() < 0.7 else random.choice(["a", "b", "c", "z", None])))
    return pairs


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_of_the_values_is_scikit_learns_macro_f1(seed: int) -> None:
    pairs = draw(seed)
    expected, answered = [t for t, _ in pairs], [a or "none" for _, a in pairs]
    want = f1_score(expected, answered, labels=sorted(set(expected)), average="macro", zero_division=0)
    assert fmean(influence_values(pairs)) == pytest.approx(want)


def test_their_variance_is_the_jackknifes() -> None:
    pairs = draw(7, 400)
    values = influence_values(pairs)
    without = [fmean(influence_values(pairs[:i] + pairs[i + 1 :])) for i in range(len(pairs))]
    jackknife = (len(pairs) - 1) ** 2 / len(pairs) * variance(without)
    assert variance(values) / len(pairs) == pytest.approx(jackknife, rel=0.02)


def test_macro_f1_is_a_figure_of_all_items() -> None:
    examples = [example("a", "a"), example("b", "b"), example("", "b"), example("b", "a")]
    scorer = macro_f1(BY_TEXT)
    assert scorer.score(examples[0]) is None
    assert scorer.score_all is not None
    values = list(scorer.score_all(examples))
    assert values[2] is None
    assert fmean(v for v in values if v is not None) == pytest.approx(2 / 3)
    assert list(scorer.score_all([])) == []
