"""Metrics of your own: Python behind an entry point of the group `slipway.metrics`, asked for by its name.

The entry point is a function `(expected: str, answer: str, row: dict) -> float | bool | None`, or a `Scorer`, which
declares title, direction and unit as well. What it returns is checked; what it raises is one error that names metric
and row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from slipway.data.strict_json import shown
from slipway.errors import ConfigError
from slipway.evaluation.metric import Metric
from slipway.evaluation.scorer import Example, Scorer
from slipway.system.files import sha256_file

GROUP = "slipway.metrics"
SHOWN_CHARS = 200


def names() -> list[str]:
    """Names of the metrics that installed packages offer."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def scorer(name: str) -> Scorer:
    """The scorer behind an entry point. Raises ConfigError when it cannot be loaded or is neither of the two forms."""
    entry = _entry(name)
    try:
        value = entry.load()
    except Exception as err:
        raise _broken(entry, f"{type(err).__name__}: {err}") from err
    if isinstance(value, Scorer):
        if value.metric.name != name:
            raise _broken(entry, f"declares the metric {value.metric.name}")
        return Scorer(value.metric, lambda e: _checked(name, e, lambda: value.score(e)), value.score_all)
    if not callable(value):
        raise _broken(entry, f"is a {type(value).__name__}")
    metric = Metric(name, name.replace("_", " "), "real", "higher", "")

    def score(example: Example) -> float | None:
        return _checked(name, example, lambda: value(example.expected, example.answer, dict(example.row)))

    return Scorer(metric, score)


def code_of(name: str) -> str:
    """What decides the values of a metric of the user's, for the key: package, version and digest of its module's
    file."""
    entry = _entry(name)
    try:
        spec = find_spec(entry.module)
    except (ImportError, ValueError) as err:
        raise _broken(entry, f"{type(err).__name__}: {err}") from err
    if spec is None:
        raise _broken(entry, f"there is no module {entry.module}")
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "no package"
    file = Path(spec.origin) if spec.origin else None
    return f"{package} {entry.value} {sha256_file(file) if file and file.is_file() else spec.origin}"


def _entry(name: str) -> EntryPoint:
    entries = entry_points(group=GROUP, name=name)
    if not entries:
        raise ConfigError("evaluate.metrics", f"no entry point {name[:100]!r}", f"one of {GROUP}", "install it")
    return next(iter(entries))


def _checked(name: str, example: Example, measure: Callable[[], Any]) -> float | None:
    """The value of an item as a finite number or None; anything else, and whatever is raised, is a ConfigError."""
    where = f"metric {name}, row {example.row.get('id', '?')}"
    step = "mend the function; items that were measured are not asked again"
    try:
        value = measure()
    except Exception as err:
        raise ConfigError(where, f"{type(err).__name__}: {err}"[:SHOWN_CHARS], "a number", step) from err
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, str) or not math.isfinite(number):
        raise ConfigError(where, shown(value, SHOWN_CHARS), "a finite number, True, False or None", step)
    return number


def _broken(entry: EntryPoint, what: str) -> ConfigError:
    return ConfigError(
        f"metric {entry.name} ({entry.value})",
        what[:SHOWN_CHARS],
        "a function (expected, answer, row) or a slipway.evaluation.scorer.Scorer",
        "mend the entry point",
    )
