"""The gate's rules on speed: tokens per second as a multiple of the champion's, and as a share of the roofline.

An engine is as fast as its boot happened to make it, so a ratio has an interval. With s the spread of a boot, (largest
- smallest) / median of the speeds after its warm starts (`engines.boots`), and a speed measured in one boot:

    ratio r of two engines     r (1 - s) / (1 + s')  to  r (1 + s) / (1 - s')
    share q of the roofline    q (1 - s)             to  q (1 + s)

The bounds are the widest that the spreads seen allow, no confidence interval: three boots have no distribution. A rule
passes when the whole interval reaches the limit, fails when none of it does. Speeds of two clients, lengths or settings
are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.config.gate import GateConfig
from slipway.config.target import TargetConfig
from slipway.evaluation.comparison import SPEED_SETTINGS
from slipway.evaluation.gate_rules import Outcome, Rule
from slipway.planning.roofline import roof
from slipway.store.artifacts import Quantized

SPREAD = "boot_speed_spread"
Runs = Mapping[int, Mapping[str, Any]]  # concurrency -> speed run


@dataclass(frozen=True)
class Speed:
    """Speed of one engine: its runs by concurrency, and how far boots differ, as a share; None when not measured."""

    runs: Runs
    spread: float | None


@dataclass(frozen=True)
class Ratio:
    """Tokens per second of one engine over another's at a concurrency, with the bounds that the spreads of both leave;
    the bounds are None where a spread was not measured."""

    callers: int
    value: float
    low: float | None
    high: float | None


def ratios(ours: Speed, theirs: Speed) -> list[Ratio]:
    """A ratio for each concurrency that both were measured at with the same client and settings."""
    return [
        _ratio(callers, ours, theirs)
        for callers in sorted(ours.runs.keys() & theirs.runs.keys())
        if all(ours.runs[callers].get(name) == theirs.runs[callers].get(name) for name in SPEED_SETTINGS)
        and theirs.runs[callers]["tokens_per_s"] > 0
    ]


def speed_rules(ours: Speed, champion: Speed | None, params: GateConfig) -> Iterator[Rule]:
    """The rule on the ratio to the champion at each concurrency, where there is a limit and a champion."""
    limit = params.min_speed_ratio
    if limit is None or champion is None:
        return
    compared = ratios(ours, champion)
    if not compared:
        yield _unmeasured("speed", "champion", limit, "no speed run of both engines has the same client and settings")
    for ratio in compared:
        what = f"times the champion's tokens/s at {ratio.callers} callers"
        yield _rule("speed", f"tokens_per_s_{ratio.callers}", "champion", limit, ratio, what)


def roofline_rules(ours: Speed, quantized: Quantized, serving: TargetConfig, params: GateConfig) -> Iterator[Rule]:
    """The rule on the share of the roofline at each concurrency, where there is a limit. Raises CheckpointError for a
    model whose weights or cache cannot be read."""
    limit = params.min_of_roofline
    if limit is None:
        return
    if serving.bandwidth_gb_s is None or not ours.runs:
        missing = "serving.bandwidth_gb_s is not set" if ours.runs else "no speed was measured"
        yield _unmeasured("of_roofline", "roofline", limit, missing)
        return
    for callers, run in sorted(ours.runs.items()):
        context = run["prompt_tokens"] + sum(run["output_tokens"]) / 2
        above = roof(quantized.path, serving.bandwidth_gb_s, callers, max(1, round(context)), gpus=max(1, serving.gpus))
        share, spread = run["tokens_per_s"] / above.tokens_per_s, ours.spread
        bounds = (None, None) if spread is None else (share * (1 - spread), share * (1 + spread))
        what = f"of the {above.tokens_per_s:.4g} tokens/s that the memory allows at {callers} callers"
        yield _rule("of_roofline", f"of_roofline_{callers}", "roofline", limit, Ratio(callers, share, *bounds), what)


def skipped_speed(champion: Speed | None, params: GateConfig) -> list[str]:
    """The rule on speed that is set and has no champion to compare with."""
    return ["speed against champion: there is none yet"] * (params.min_speed_ratio is not None and champion is None)


def _ratio(callers: int, ours: Speed, theirs: Speed) -> Ratio:
    value = ours.runs[callers]["tokens_per_s"] / theirs.runs[callers]["tokens_per_s"]
    s, t = ours.spread, theirs.spread
    if s is None or t is None or t >= 1:
        return Ratio(callers, value, None, None)
    return Ratio(callers, value, value * max(0.0, 1 - s) / (1 + t), value * (1 + s) / (1 - t))


def _rule(rule: str, metric: str, against: str, limit: float, ratio: Ratio, what: str) -> Rule:
    reason, outcome = f"{ratio.value:.3f} {what}", _outcome(ratio, limit)
    if ratio.low is None or ratio.high is None:
        reason += f", limit {limit:.3f}, but how far boots differ was not measured: set engine.boots.warm to 3 or more"
    else:
        bounds = f" ({ratio.low:.3f} to {ratio.high:.3f} by what boots differ)"
        words = {"pass": "at least", "fail": "less than", "inconclusive": "boots differ too much to tell from"}
        reason += f"{bounds}, {words[outcome]} {limit:.3f}"
    return Rule(
        rule,
        metric,
        against,
        ratio.value,
        limit,
        ratio.low,
        ratio.high,
        outcome,
        reason,
        unit="x",
        direction="at least",
    )


def _outcome(ratio: Ratio, limit: float) -> Outcome:
    if ratio.low is None or ratio.high is None:
        return "inconclusive"
    return "pass" if ratio.low >= limit else "fail" if ratio.high < limit else "inconclusive"


def _unmeasured(rule: str, against: str, limit: float, why: str) -> Rule:
    reason = f"{rule} against {against}: {why}"
    return Rule(
        rule, "tokens_per_s", against, None, limit, None, None, "inconclusive", reason, unit="x", direction="at least"
    )
