"""Metrics of classes: accuracy and macro-F1.

The class of an answer is one key of its JSON, or without a key the whole answer as `exact` compares it.

    F1_c = 2 TP_c / D_c,  D_c = answers of class c + items of class c;  macro-F1 = mean of F1_c over expected classes

A macro-F1 is no mean over items. So that it can be paired and clustered like one, an item's value is the figure plus
the item's influence on it (infinitesimal jackknife; Efron, Tibshirani (1993), An Introduction to the Bootstrap, 21.3):

    value_i = macro-F1 + n / C * sum over c of (2 tp_ic - F1_c (p_ic + t_ic)) / D_c

with tp, p, t = 1 where item i is right in, is answered as, is of class c, and C classes. The influences sum to 0: the
mean of the values is the macro-F1, their variance that of the delta method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from slipway.evaluation.json_metrics import parse
from slipway.evaluation.metric import Metric
from slipway.evaluation.scorer import Example, Scorer

ClassOf = Callable[[str], str | None]


def class_reader(label_key: str | None, normal: Callable[[str], str]) -> ClassOf:
    """Text of an answer -> its class, None for none. `label_key`: key of a JSON object; `normal`: how a whole answer is
    spelt."""

    def of_key(text: str) -> str | None:
        _, value = parse(text)
        if not isinstance(value, dict) or label_key not in value:
            return None
        return value[label_key] if isinstance(value[label_key], str) else None

    def of_text(text: str) -> str | None:
        return normal(text) or None

    return of_text if label_key is None else of_key


def accuracy(class_of: ClassOf) -> Scorer:
    """`label_accuracy`: the answer has the expected class; items whose expected answer has none are left out."""

    def score(example: Example) -> float | None:
        expected = class_of(example.expected)
        return None if expected is None else float(class_of(example.answer) == expected)

    return Scorer(Metric("label_accuracy", "label accuracy"), score)


def macro_f1(class_of: ClassOf) -> Scorer:
    """`label_macro_f1`: F1 of each expected class, averaged; a class that is answered and never expected counts where
    it is wrong."""

    def score_all(examples: Sequence[Example]) -> list[float | None]:
        expected = [class_of(example.expected) for example in examples]
        answered = [class_of(example.answer) for example in examples]
        at = [i for i, label in enumerate(expected) if label is not None]
        values = dict(zip(at, influence_values([(str(expected[i]), answered[i]) for i in at]), strict=True))
        return [values.get(i) for i in range(len(examples))]

    metric = Metric("label_macro_f1", "label macro-F1", kind="real")
    return Scorer(metric, lambda example: None, score_all)  # noqa: ARG005 - one item has no F1


def influence_values(pairs: Sequence[tuple[str, str | None]]) -> list[float]:
    """The formula above over (expected, answered) classes; the mean of the values is the macro-F1."""
    truth, answers = Counter(t for t, _ in pairs), Counter(a for _, a in pairs)
    right = Counter(t for t, a in pairs if t == a)
    total = {c: truth[c] + answers[c] for c in truth}
    f1 = {c: 2 * right[c] / total[c] for c in truth}
    figure, scale = sum(f1.values()) / max(1, len(f1)), len(pairs) / max(1, len(f1))

    def influence(expected: str, answered: str | None) -> float:
        own = (2 * (expected == answered) - f1[expected]) / total[expected]
        return own - (f1[answered] / total[answered] if answered is not None and answered in f1 else 0.0)

    return [figure + scale * influence(*p) for p in pairs]
