"""Every metric by its name, built from the config and the data's label key; other names are entry points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.config.evaluate import EvaluateConfig
from slipway.errors import ConfigError
from slipway.evaluation import json_metrics, label_metrics, overlap_metrics, python_metrics, text_metrics, tool_metrics
from slipway.evaluation.judge import PROMPT, judge
from slipway.evaluation.label_metrics import ClassOf, class_reader
from slipway.evaluation.scorer import Scorer
from slipway.evaluation.text_metrics import Normal, normaliser
from slipway.system.nearest import did_you_mean


@dataclass(frozen=True)
class Settings:
    """What metrics are built from: section `evaluate`, the key of a JSON answer that names its class (None: the whole
    answer is its class), the JSON Schema of answers (None: any JSON), and the judge's prompt."""

    config: EvaluateConfig
    label_key: str | None
    schema: Mapping[str, Any] | None = None
    judge_prompt: str = PROMPT

    def normal(self) -> Normal:
        """How texts are spelt before they are compared."""
        config = self.config
        return normaliser(ignore_case=config.ignore_case, ignore_punctuation=config.ignore_punctuation)

    def class_of(self) -> ClassOf:
        """How an answer's class is read."""
        return class_reader(self.label_key, self.normal())


def _regex(settings: Settings) -> Scorer:
    return text_metrics.matches(str(settings.config.pattern), settings.normal())


def _numeric(settings: Settings) -> Scorer:
    return text_metrics.numeric(settings.config.absolute_tolerance, settings.config.relative_tolerance)


def _judge(settings: Settings) -> Scorer:
    assert settings.config.judge is not None  # `check_names` refuses it
    return judge(settings.config.judge, settings.judge_prompt)


SHIPPED: dict[str, Callable[[Settings], Scorer]] = {
    "exact": lambda settings: text_metrics.exact(settings.normal()),
    "contains": lambda settings: text_metrics.contains(settings.normal()),
    "regex": _regex,
    "numeric": _numeric,
    "json_exact": lambda _: json_metrics.exact(),
    "json_valid": lambda settings: json_metrics.valid(settings.schema),
    "label_accuracy": lambda settings: label_metrics.accuracy(settings.class_of()),
    "label_macro_f1": lambda settings: label_metrics.macro_f1(settings.class_of()),
    "token_f1": lambda _: overlap_metrics.token_f1(),
    "chrf": lambda _: overlap_metrics.chrf(),
    "rouge_l": lambda _: overlap_metrics.rouge_l(),
    "tool_calls": lambda _: tool_metrics.tool_calls(),
    "tool_names": lambda _: tool_metrics.tool_names(),
    "judge": _judge,
}


NEEDED = {"regex": "pattern", "judge": "judge"}  # metric -> key of section `evaluate` that it cannot do without


def known_names() -> list[str]:
    """Names of all metrics that can be asked for: shipped ones and those of installed packages."""
    return [*SHIPPED, *(name for name in python_metrics.names() if name not in SHIPPED)]


def check_names(names: Sequence[str], config: EvaluateConfig) -> Sequence[str]:
    """The names. Raises ConfigError for one that no metric has, with the near one, and for one whose settings are
    missing."""
    known = known_names()
    for name in names:
        if name in NEEDED and getattr(config, NEEDED[name]) is None:
            raise ConfigError(f"evaluate.{NEEDED[name]}", "null", f"what metric {name} needs", "set it")
        if name not in known:
            hint = did_you_mean(name, known, "see docs/metrics.md")
            raise ConfigError("evaluate.metrics", f"no metric {name[:100]!r}", f"one of {', '.join(known)}", hint)
    return names


def scorers(names: Sequence[str], settings: Settings) -> list[Scorer]:
    """The scorers of these metrics, in order. Raises ConfigError for a name that no metric has, and where the config
    lacks what a metric needs."""
    check_names(names, settings.config)
    return [SHIPPED[n](settings) if n in SHIPPED else python_metrics.scorer(n) for n in dict.fromkeys(names)]
