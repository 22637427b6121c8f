"""A paired test that may be looked at after every pair: candidate against champion on judged answers to one prompt.

Each pair is a win (1), a loss (-1) or a tie (0) of the candidate; d is their mean. Against a null hypothesis "d is at
most m" one bets a share b of a capital on every pair,

    K_n(b) = prod_i (1 + b (x_i - m)),  0 < b < 1 / (1 + m)        K_n = mean of K_n(b) over a fixed set of bets

Under the hypothesis no bet gains on average, so K_n is a supermartingale, and by Ville's inequality it ever exceeds
1 / alpha with probability alpha at most, however often and whenever one looks. Betting: Waudby-Smith, Ramdas (2024), J.
R. Stat. Soc. B 86, 1-27; the mean over bets is the method of mixtures, Robbins (1970), Ann. Math. Stat. 41, 1397-1409.
With three outcomes K_n depends on three counts only. Of "d is at least m" the signs are turned.

    better          against d <= 0 at alpha / 2       worse          against d >= 0 at alpha / 2
    no_difference   against d <= -margin at alpha: not worse by more than the margin, and not shown to be better
    not_enough      none of them yet

Bets are chosen for differences of 0.01 to 1; pairs must come from independent prompts: twenty messages of one
conversation are not twenty pairs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import exp, log
from typing import Any, Literal

from slipway.errors import ConfigError

Outcome = Literal["better", "worse", "no_difference", "not_enough"]
BETS = (0.03, 0.06, 0.12, 0.2, 0.32, 0.5, 0.7, 0.9)  # of the largest bet that cannot lose everything
MOST_PAIRS = 1_000_000


@dataclass(frozen=True)
class PairCounts:
    """Pairs that the candidate won, tied and lost."""

    wins: int = 0
    ties: int = 0
    losses: int = 0

    @property
    def pairs(self) -> int:
        """All of them."""
        return self.wins + self.ties + self.losses

    @property
    def difference(self) -> float:
        """Share of wins minus share of losses; 0 without a pair."""
        return (self.wins - self.losses) / self.pairs if self.pairs else 0.0

    def add(self, value: float) -> PairCounts:
        """One pair more: positive a win, negative a loss, 0 a tie."""
        return PairCounts(self.wins + (value > 0), self.ties + (value == 0), self.losses + (value < 0))

    def turned(self) -> PairCounts:
        """Wins and losses exchanged."""
        return PairCounts(self.losses, self.ties, self.wins)


@dataclass(frozen=True)
class Looked:
    """What the pairs say now. `against_*`: capital against each hypothesis, its logarithm; `more`: pairs that would
    decide if they go on like these, None where none would or something is decided."""

    outcome: Outcome
    counts: PairCounts
    difference: float
    against_no_better: float
    against_no_worse: float
    against_inferior: float
    more: int | None

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "pairs": self.counts.pairs}


def look(counts: PairCounts, *, margin: float, alpha: float = 0.05) -> Looked:
    """What these pairs say; may be asked after each of them. `margin`: of d, 0 to 1. Raises ConfigError for a margin or
    an alpha outside 0..1."""
    for name, value in (("margin", margin), ("alpha", alpha)):
        if not 0 < value < 1:
            raise ConfigError(f"canary's {name}", value, "between 0 and 1", f"give such a {name}")
    outcome = outcome_of(counts, margin, alpha)
    more = _more(counts, margin, alpha) if outcome == "not_enough" and counts.pairs else None
    return Looked(
        outcome,
        counts,
        round(counts.difference, 6),
        round(log_capital(counts, 0.0), 4),
        round(log_capital(counts.turned(), 0.0), 4),
        round(log_capital(counts, -margin), 4),
        more,
    )


def log_capital(counts: PairCounts, most: float) -> float:
    """ln K_n against "d is at most `most`"."""
    logs = []
    for share in BETS:
        bet = share / (1 + most)
        gains = (1 + bet * (1 - most), 1 - bet * most, 1 - bet * (1 + most))
        logs.append(
            sum(n * log(gain) for n, gain in zip((counts.wins, counts.ties, counts.losses), gains, strict=True))
        )
    top = max(logs)
    return top + log(sum(exp(value - top) for value in logs) / len(logs))


def outcome_of(counts: PairCounts, margin: float, alpha: float) -> Outcome:
    """What these pairs show, see above."""
    if log_capital(counts, 0.0) >= log(2 / alpha):
        return "better"
    if log_capital(counts.turned(), 0.0) >= log(2 / alpha):
        return "worse"
    if log_capital(counts, -margin) >= log(1 / alpha):
        return "no_difference"
    return "not_enough"


def _more(counts: PairCounts, margin: float, alpha: float) -> int | None:
    """Pairs that are missing if wins, ties and losses keep their shares, to a tenth."""
    factor = 1.0
    while counts.pairs * factor <= MOST_PAIRS:
        factor *= 1.1
        scaled = PairCounts(*(round(n * factor) for n in (counts.wins, counts.ties, counts.losses)))
        if outcome_of(scaled, margin, alpha) != "not_enough":
            return max(1, scaled.pairs - counts.pairs)
    return None
