"""Pairs of answers to one prompt, champion's and candidate's: what each pair says of the candidate.

    failed    the candidate gave no whole answer where the champion did: lost, of failures
    equal     the same text: a tie
    judged    a judge read both in both orders: won or lost where both orders agree, else a tie
    unjudged  texts differ and nobody judged them: lost, where the candidate is to be shown no worse, and won, where it
              is to be shown worse; so they may leave a canary open, and never decide it

Beside it stand figures that decide nothing: the share of equal answers and the mean F1 of their words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from slipway.config.canary import CanaryConfig
from slipway.config.evaluate import JudgeConfig
from slipway.deployment.canary.sequential_test import Looked, PairCounts, look
from slipway.errors import EngineError
from slipway.evaluation import judge as judging
from slipway.evaluation.metric_files import judge_prompt
from slipway.evaluation.overlap_metrics import token_f1
from slipway.evaluation.scorer import Example

Judge = Callable[[str, str, str], float | None]  # request, champion's answer, candidate's -> 1, 0, -1, or no verdict
SHOWN = 200
_F1 = token_f1()


@dataclass
class Tally:
    """All pairs so far. `quality`: equal and judged ones; `failures`: lost where the candidate failed, else tied."""

    quality: PairCounts = field(default_factory=PairCounts)
    failures: PairCounts = field(default_factory=PairCounts)
    equal: int = 0
    unjudged: int = 0
    passed_over: int = 0
    f1_sum: float = 0.0
    compared: int = 0
    worst: str = ""
    reason: str = ""

    def add(self, pair: Mapping[str, Any], judge: Judge | None) -> None:
        """Count a pair `{"request", "champion", "candidate"}` of the mirror. One whose champion failed says nothing."""
        champion, candidate = pair["champion"], pair["candidate"]
        if champion["status"] != 200:
            self.passed_over += 1
            return
        if candidate.get("reason"):
            self.failures = self.failures.add(-1)
            self.reason = str(candidate["reason"])[:SHOWN]
            return
        self.failures = self.failures.add(0)
        self._compare(pair["request"], champion["text"], candidate["text"], judge)

    def _compare(self, request: Mapping[str, Any], champion: str, candidate: str, judge: Judge | None) -> None:
        self.compared += 1
        self.f1_sum += _F1.score(Example({"messages": [{"content": champion}]}, candidate)) or 0.0
        if champion == candidate:
            self.equal += 1
            self.quality = self.quality.add(0)
            return
        value = None
        if judge is not None:
            try:
                value = judge(text_of(request), champion, candidate)
            except EngineError as err:
                self.reason = f"judge: {err.value}"[:SHOWN]
        if value is None:
            self.unjudged += 1
            return
        self.quality = self.quality.add(value)
        if value < 0:
            self.worst = f"{text_of(request)[-SHOWN:]!r}: {champion[:SHOWN]!r}, now {candidate[:SHOWN]!r}"

    def looks(self, params: CanaryConfig) -> tuple[Looked, Looked]:
        """What failures and quality say now, each at half of alpha."""
        margin, alpha = params.margin, params.alpha / 2
        counts, open_pairs = self.quality, self.unjudged
        failures = look(self.failures, margin=margin, alpha=alpha)
        quality = look(replace(counts, losses=counts.losses + open_pairs), margin=margin, alpha=alpha)
        if open_pairs and quality.outcome in ("worse", "not_enough"):
            at_best = look(replace(counts, wins=counts.wins + open_pairs), margin=margin, alpha=alpha)
            quality = replace(quality, outcome="worse" if at_best.outcome == "worse" else "not_enough")
        return failures, quality

    def figures(self) -> dict[str, Any]:
        """Counts and what decides nothing, as JSON values. No prompt is in it."""
        mean = round(self.f1_sum / self.compared, 4) if self.compared else None
        counts = {"compared": self.compared, "equal": self.equal, "unjudged": self.unjudged, "token_f1": mean}
        return {**counts, "passed_over": self.passed_over, "failed": self.failures.losses, "reason": self.reason}


def text_of(request: Mapping[str, Any]) -> str:
    """A request as a judge reads it."""
    messages = request.get("messages")
    if isinstance(messages, list) and all(isinstance(one, dict) for one in messages):
        return judging.conversation([{"role": "user", **one} for one in messages])
    return str(request.get("prompt", ""))


def judge_of(config: JudgeConfig) -> Judge:
    """Asks the configured endpoint, both orders. Raises ConfigError when the variable of its key is not set."""
    prompt, verdict_on = judge_prompt(config.prompt), judging.asker(config, "deploy.canary.judge")

    def ask(request: str, a: str, b: str) -> str | None:
        return verdict_on(judging.fill(prompt, request=request, a=a, b=b))

    def judge(request: str, champion: str, candidate: str) -> float | None:
        second, first = ask(request, champion, candidate), ask(request, candidate, champion)
        if second is None or first is None:
            return None
        return {("b", "a"): 1.0, ("a", "b"): -1.0}.get((second, first), 0.0)

    return judge
