"""Does an engine compute what its weights say? Judged on log-probabilities of the tokens that it wrote itself.

    d_t = log p_engine(y_t) - log p_kernel(y_t)      p_kernel: the weights in fp32 with the kernels' rounding
    u_t = log p_kernel(y_t) - log p_exact(y_t)       p_exact: the same weights, nothing rounded

    ratio  = mean |d| / mean |u|                     how far the engine is off, in units of what rounding does anyway
    growth = ratio of the last third of an answer's positions / ratio of the first third

A healthy engine differs from the simulated one by the order of its sums and by rounding that is not simulated
(llama.cpp accumulates attention in fp16): about as much as rounding itself moves a token, whatever the model's size and
however sensitive it is, so `ratio` is near 1. A wrong scale, row or cache moves tokens by more. A fault that comes with
length shows in `growth` while the first thirds still dilute the mean.

Limits: ln(ratio) and ln(growth) of healthy engines are taken as normal, with the mean and the standard deviation that
`benchmarks/kernel_agreement.py` measured on healthy models. A limit is the one-sided prediction limit for one more
engine,

    ln limit = mean + t(1 - FALSE_ALARM, n - 1) sd sqrt(1 + 1/n)         Hahn, Meeker (1991), Statistical Intervals, 4.7

and false alarms of the two together are at most 2 FALSE_ALARM. Measured with llama.cpp, bf16 and NVFP4 weights pooled,
8 answers of 768 tokens; for the kernels of other engines no series was measured, the same limits hold. `growth` is not
judged on thirds of fewer than LEAST_THIRD tokens. Left out: an engine that writes other tokens than its most probable
ones and reports their true probabilities; `greedy` shows it (so does an end token that was passed over) and decides
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, sqrt
from typing import Any

from slipway.errors import EngineError

FALSE_ALARM = 0.001
T_QUANTILE = 3.579  # of Student's t, 19 degrees of freedom, at 1 - FALSE_ALARM
LEAST_SHIFT = 1e-5  # nats; below it fp32 sums themselves differ, and a kernel that rounds nothing has u = 0
LEAST_THIRD = 100  # tokens
WINDOW = 16  # tokens of a moving mean that is looked through for the first place beyond the limit


class TooFewTokensError(EngineError):
    """Too few of the engine's tokens have a log-probability to say anything."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a statistic's logarithm over `n` healthy engines."""

    mean: float
    sd: float
    n: int

    @property
    def limit(self) -> float:
        """What one more healthy engine exceeds with probability FALSE_ALARM."""
        return exp(self.mean + T_QUANTILE * self.sd * sqrt(1 + 1 / self.n))


RATIO = Spread(mean=0.282, sd=0.214, n=20)
GROWTH = Spread(mean=0.465, sd=0.281, n=20)


@dataclass(frozen=True)
class AnswerDifference:
    """Of one answer, token by token: log-probability (nats) by the engine (None where it gave none), by the weights
    with the kernels' rounding, by the weights exactly; and whether the token is the weights' own greedy choice."""

    engine: Sequence[float | None]
    kernel: Sequence[float]
    exact: Sequence[float]
    greedy: Sequence[bool]


@dataclass(frozen=True)
class Agreement:
    """The figures of one engine: what is judged, its limits, and what a person looks at beside."""

    ratio: float
    ratio_limit: float
    growth: float
    growth_limit: float | None
    mean_difference: float
    mean_rounding: float
    greedy: float
    answers: int
    tokens: int
    without_probability: int
    first_position: int | None
    outcome: str

    def figures(self) -> dict[str, Any]:
        """As data: numbers rounded to six digits."""
        return {name: round(v, 6) if isinstance(v, float) else v for name, v in asdict(self).items()}


def judge_agreement(answers: Sequence[AnswerDifference]) -> Agreement:
    """The statistics of these answers against their limits. Raises TooFewTokensError when a third of the answers has
    no log-probability by the engine, EngineError for one that is not finite."""
    thirds = [_Sums(), _Sums(), _Sums()]
    skipped = chosen = total = 0
    for answer in answers:
        _require_finite(answer)
        length = len(answer.kernel)
        chosen, total = chosen + sum(answer.greedy), total + length
        for at, value in enumerate(answer.engine):
            if value is None:
                skipped += 1
            else:
                thirds[3 * at // length].add(value - answer.kernel[at], answer.kernel[at] - answer.exact[at])
    whole = thirds[0] + thirds[1] + thirds[2]
    if not min(part.n for part in thirds):
        problem = f"log-probabilities of {whole.n} of {total} tokens"
        raise TooFewTokensError(
            "kernel agreement", problem, "some in each third of the answers", "ask for longer answers"
        )
    growth = thirds[2].ratio / thirds[0].ratio
    growth_limit = GROWTH.limit if min(part.n for part in thirds) >= LEAST_THIRD else None
    passed = whole.ratio <= RATIO.limit and (growth_limit is None or growth <= growth_limit)
    return Agreement(
        ratio=whole.ratio,
        ratio_limit=RATIO.limit,
        growth=growth,
        growth_limit=growth_limit,
        mean_difference=whole.difference / whole.n,
        mean_rounding=whole.rounding / whole.n,
        greedy=chosen / total,
        answers=len(answers),
        tokens=total,
        without_probability=skipped,
        first_position=None if passed else _first_position(answers, whole.rounding / whole.n * RATIO.limit),
        outcome="pass" if passed else "fail",
    )


def require_agreement(agreement: Agreement) -> None:
    """Raise EngineError naming statistic, limit, first position beyond it and the likely cause; return when it
    passed."""
    if agreement.outcome == "pass":
        return
    name, value, limit = "ratio", agreement.ratio, agreement.ratio_limit
    if value <= limit and agreement.growth_limit is not None:
        name, value, limit = "growth", agreement.growth, agreement.growth_limit
    where = "no single stretch" if agreement.first_position is None else f"from token {agreement.first_position} on"
    raise EngineError(
        "kernel agreement",
        f"{name} {value:.3g}: log-probabilities of the engine's own tokens are off by {agreement.mean_difference:.3g} "
        f"nats a token where rounding explains {agreement.mean_rounding:.3g}; beyond the limit {where}",
        f"{name} at most {limit:.3g}, which a healthy engine exceeds once in {round(1 / FALSE_ALARM):,}",
        likely_cause(agreement),
    )


def likely_cause(agreement: Agreement) -> str:
    """What to look at first, from where the difference begins."""
    late = agreement.first_position is not None and agreement.first_position > 4 * WINDOW
    if late or (agreement.growth_limit is not None and agreement.growth > agreement.growth_limit):
        return (
            "it comes with length: look at rotary parameters, the KV cache's format and scales, the sliding window; "
            "try another attention backend"
        )
    return (
        "it is there from the first tokens: look at scales and the order of rows of quantized weights, and at the "
        "kernel that reads them; try another linear backend, or serve the checkpoint unquantized"
    )


@dataclass
class _Sums:
    """Sums of |d| and |u| over n tokens."""

    difference: float = 0.0
    rounding: float = 0.0
    n: int = 0

    def add(self, difference: float, rounding: float) -> None:
        self.difference += abs(difference)
        self.rounding += abs(rounding)
        self.n += 1

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.difference + other.difference, self.rounding + other.rounding, self.n + other.n)

    @property
    def ratio(self) -> float:
        return max(self.difference / self.n, LEAST_SHIFT) / max(self.rounding / self.n, LEAST_SHIFT)


def _require_finite(answer: AnswerDifference) -> None:
    for at, value in enumerate(answer.engine):
        if value is not None and not value - value == 0:
            raise EngineError(
                "kernel agreement",
                f"log-probability {value} of token {at}",
                "finite numbers",
                "the engine's kernels overflow: read its log, try another backend",
            )


def _first_position(answers: Sequence[AnswerDifference], limit: float) -> int | None:
    """The first token position from which on the mean of |d| over WINDOW positions of all answers is beyond `limit`."""
    longest = max(len(answer.kernel) for answer in answers)
    sums = [[0.0, 0] for _ in range(longest)]
    for answer in answers:
        for at, value in enumerate(answer.engine):
            if value is not None:
                sums[at][0] += abs(value - answer.kernel[at])
                sums[at][1] += 1
    for begin in range(longest):
        part = sums[begin : begin + WINDOW]
        count = sum(n for _, n in part)
        if count and sum(total for total, _ in part) / count > limit:
            return begin
    return None
