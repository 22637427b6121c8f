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

from slipway.config.gate_rows import GateRow
from slipway.config.target import TargetConfig
from slipway.errors import CheckpointError
from slipway.evaluation.comparison import SPEED_SETTINGS
from slipway.evaluation.gate_rules import Outcome, Rule, Skipped
from slipway.planning.roofline import roof
from slipway.store.artifacts import Quantized

SPREAD = "boot_speed_spread"
AUTO = "auto"
AUTO_RATIO = 0.9  # a tenth slower, beyond what boots differ by, is no chance
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


def speed_rules(ours: Speed, champion: Speed | None, row: GateRow) -> Iterator[Rule | Skipped]:
    """The rule on the ratio to the champion at each concurrency. A limit that somebody set asks for a measurement: it
    is inconclusive without one. `auto` decides only where boots of both were measured on one machine, and says so where
    they were not."""
    asked = row.limit != AUTO
    if champion is None and not asked:
        return
    least = row.number if asked else AUTO_RATIO
    if champion is None:
        yield Skipped("speed against champion: there is none yet")
        return
    compared = ratios(ours, champion)
    if not compared:
        why = "no speed run of both engines has the same client and settings"
        yield _unmeasured("speed", "champion", least, why) if asked else Skipped(f"speed against champion: {why}")
    for ratio in compared:
        what = f"times the champion's tokens/s at {ratio.callers} callers"
        rule = _rule("speed", f"tokens_per_s_{ratio.callers}", "champion", least, ratio, what)
        same = _machine(ours.runs[ratio.callers]) == _machine(champion.runs[ratio.callers])
        if not asked and (rule.outcome == "inconclusive" or not same):
            elsewhere = "" if same else ", but the champion was measured on another machine"
            yield Skipped(f"speed against champion: {rule.reason}{elsewhere}")
        else:
            yield rule


def roofline_rules(ours: Speed, quantized: Quantized, serving: TargetConfig, row: GateRow) -> Iterator[Rule | Skipped]:
    """The rule on the share of the roofline at each concurrency; with `auto` the shares are shown where they can be
    had. Raises CheckpointError for a model whose weights or cache cannot be read, where there is a limit."""
    limit = row.limit
    if serving.bandwidth_gb_s is None or not ours.runs:
        missing = "serving.bandwidth_gb_s is not set" if ours.runs else "no speed was measured"
        if limit != AUTO:
            yield _unmeasured("of_roofline", "roofline", float(limit), missing)
        return
    try:
        for callers, run in sorted(ours.runs.items()):
            yield _of_roofline(callers, run, ours.spread, quantized, serving, serving.bandwidth_gb_s, limit)
    except CheckpointError as err:
        if limit != AUTO:
            raise
        yield Skipped(f"of_roofline: {str(err.value)[:300]}")


def _of_roofline(
    callers: int,
    run: Mapping[str, Any],
    spread: float | None,
    quantized: Quantized,
    serving: TargetConfig,
    bandwidth_gb_s: float,
    limit: float | str,
) -> Rule | Skipped:
    context = run["prompt_tokens"] + sum(run["output_tokens"]) / 2
    above = roof(quantized.path, bandwidth_gb_s, callers, max(1, round(context)), gpus=max(1, serving.gpus))
    share = run["tokens_per_s"] / above.tokens_per_s
    bounds = (None, None) if spread is None else (share * (1 - spread), share * (1 + spread))
    what = f"of the {above.tokens_per_s:.4g} tokens/s that the memory allows at {callers} callers"
    if isinstance(limit, str):
        return Skipped(f"of_roofline: {share:.3f} {what}; no limit is set (gate.min_of_roofline)")
    return _rule("of_roofline", f"of_roofline_{callers}", "roofline", limit, Ratio(callers, share, *bounds), what)


def _machine(run: Mapping[str, Any]) -> object:
    """Kind of the engine and row of the machine that a speed run was measured on; None where its record names none."""
    server = run.get("server") or {}
    return server.get("kind"), server.get("target")


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
