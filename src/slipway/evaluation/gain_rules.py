"""The gate's rule on what a candidate brings: one that is as good as the champion replaces it only for a reason.

A champion has shown in use what a candidate has not, and every switch is a chance to lose a little within the margin.
So a tie keeps the champion, unless the candidate brings one of these, and the rule says which:

    better          in at least one metric by the paired test, at a level that holds for all metrics (Holm)
    new data        its fine-tuning data have another digest than the champion's
    smaller         its engine has fewer bytes, by the row's `smaller` at least
    faster          more tokens/s at a concurrency, by the row's `faster` beyond the bounds that boots differ by
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.config.gate_rows import GateRow
from slipway.evaluation.engine_traits import Traits
from slipway.evaluation.gate_rules import GAIN, Rule, shown
from slipway.evaluation.multiplicity import holm
from slipway.evaluation.speed_rules import ratios

UNMEASURED_SPREAD = 0.2  # of a speed whose boots nobody compared: what two cores of a busy machine were seen to vary by


def gain_rule(candidate: Traits, champion: Traits, differences: Mapping[str, Mapping[str, Any]], row: GateRow) -> Rule:
    """`differences`: candidate - champion per metric, as `paired_rules.paired_differences` gives them."""
    gains = [
        *_better(differences, row.alpha),
        *_new_data(candidate, champion),
        *_smaller(candidate, champion, row.smaller),
        *_faster(candidate, champion, row.faster),
    ]
    if gains:
        reason = f"brings: {'; '.join(gains)}"
    else:
        lacking = ", ".join(_lacking(candidate, champion))
        reason = f"a tie that brings nothing ({lacking}): the champion stays; gate.tie=promote lets it pass"
    return Rule(
        GAIN,
        GAIN,
        "champion",
        float(len(gains)),
        1.0,
        None,
        None,
        "pass" if gains else "fail",
        reason,
        direction="at least",
        alpha=row.alpha,
    )


def _better(differences: Mapping[str, Mapping[str, Any]], alpha: float) -> Iterator[str]:
    """A two-sided p of a difference is halved on its better side: the claim has one."""
    one_sided = [d["p"] / 2 if d["value"] > 0 else 1 - d["p"] / 2 for d in differences.values()]
    for (name, d), rejected in zip(differences.items(), holm(one_sided, alpha), strict=True):
        if rejected:
            yield f"better {name} by {shown(d['value'], d['unit'], signed=True)}"


def _new_data(candidate: Traits, champion: Traits) -> Iterator[str]:
    if candidate.data and champion.data and candidate.data != champion.data:
        yield f"new training data {candidate.data[:12]} for {champion.data[:12]}"


def _smaller(candidate: Traits, champion: Traits, least: float) -> Iterator[str]:
    if candidate.size and champion.size and candidate.size <= (1 - least) * champion.size:
        yield f"smaller by {1 - candidate.size / champion.size:.1%}, {candidate.size / 1e6:,.1f} MB"


def _faster(candidate: Traits, champion: Traits, least: float) -> Iterator[str]:
    for ratio in ratios(candidate.speed, champion.speed):
        low = ratio.low if ratio.low is not None else ratio.value / (1 + UNMEASURED_SPREAD)
        if low >= 1 + least:
            yield f"faster by {ratio.value - 1:.1%} at {ratio.callers} callers"


def _lacking(candidate: Traits, champion: Traits) -> Iterator[str]:
    """What was compared without a gain, or could not be."""
    yield "no metric is better beyond chance"
    if candidate.data and champion.data:
        yield "the same training data"
    else:
        yield "nobody knows any more what one of both was trained on"
    if candidate.size and champion.size:
        yield f"{candidate.size / champion.size:.3f} times the bytes"
    speeds = [
        f"{ratio.value:.3f} times as fast at {ratio.callers} callers"
        for ratio in ratios(candidate.speed, champion.speed)
    ]
    yield from speeds or ["speeds were not measured alike"]
