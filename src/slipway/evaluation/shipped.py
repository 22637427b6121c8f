"""Every metric by its name, built from the config and the data's label key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipway.config.evaluate import EvaluateConfig
from slipway.errors import ConfigError
from slipway.evaluation import json_metrics, label_metrics
from slipway.evaluation.label_metrics import ClassOf, class_reader
from slipway.evaluation.scorer import Scorer
from slipway.system.nearest import did_you_mean


@dataclass(frozen=True)
class Settings:
    """What metrics are built from: section `evaluate`, and the key of a JSON answer that names its class (None: the
    whole answer is its class)."""

    config: EvaluateConfig
    label_key: str | None

    def class_of(self) -> ClassOf:
        """How an answer's class is read."""
        return class_reader(self.label_key, str.strip)


SHIPPED: dict[str, Callable[[Settings], Scorer]] = {
    "json_exact": lambda _: json_metrics.exact(),
    "json_valid": lambda _: json_metrics.valid(None),
    "label_accuracy": lambda settings: label_metrics.accuracy(settings.class_of()),
    "label_macro_f1": lambda settings: label_metrics.macro_f1(settings.class_of()),
}


def scorers(names: Sequence[str], settings: Settings) -> list[Scorer]:
    """The scorers of these metrics, in order. Raises ConfigError for a name that no metric has."""
    return [_scorer(name, settings) for name in dict.fromkeys(names)]


def _scorer(name: str, settings: Settings) -> Scorer:
    if name not in SHIPPED:
        hint = did_you_mean(name, SHIPPED, "see docs/metrics.md")
        raise ConfigError("evaluate.metrics", f"no metric {name[:100]!r}", f"one of {', '.join(SHIPPED)}", hint)
    return SHIPPED[name](settings)
