"""The gate's rules on kernel agreement: an engine that was checked shows its figures beside those of quality.

An engine that failed the check does not exist: the stage that makes it ends with an error. So these rules show, and
decide only where the limits became narrower since the engine was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.evaluation.gate_rules import Outcome, Rule, Skipped
from slipway.evaluation.kernel_agreement import GROWTH, RATIO


def agreement_rules(figures: Mapping[str, Any]) -> Iterator[Rule | Skipped]:
    """A rule for each statistic that was judged, of an engine's summary `figures`; none for an engine that was not
    checked, which is said, or of before there was a check."""
    if figures.get("agreement") == "not checked":
        yield Skipped("kernel agreement: not checked, the engine's agreement.json says why")
    for name, limit in (("ratio", RATIO.limit), ("growth", GROWTH.limit)):
        value = figures.get(f"agreement_{name}")
        if value is None or f"agreement_{name}_limit" not in figures:
            continue
        outcome: Outcome = "pass" if value <= limit else "fail"
        reason = (
            f"kernel agreement: {name} {value:.3g} over {figures['agreement_tokens']} of the engine's tokens "
            f"{'is within' if outcome == 'pass' else 'exceeds'} {limit:.3g}"
        )
        yield Rule(f"agreement_{name}", f"agreement_{name}", "limit", value, limit, None, None, outcome, reason)
