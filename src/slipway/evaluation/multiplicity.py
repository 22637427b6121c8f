"""Levels of many tests at once: which families of the gate's tests are corrected, by what, and why the others are not.

    all must pass    "no worse than the reference" in every metric and against every reference. The gate passes only if
                     each test rejects at alpha, so it passes a candidate that is inferior anywhere with a probability
                     of at most alpha: an intersection-union test. A correction would cost power and protect nothing.
                     Berger (1982), Technometrics 24:295-300; Berger, Hsu (1996), Stat. Sci. 11:283-319.
    any one fails    "worse than the margin" in at least one of k paired rules. Each test may err, and so errors add up:
                     Holm's procedure over the k keeps the chance of any wrong `fail` at alpha.
    any one gains    "better than the champion" in at least one of k metrics: Holm, for the same reason.
    trials           candidate after candidate held to the same best release: see `trial_alpha`.

Holm (1979), Scand. J. Stat. 6:65-70; valid under any dependence, which rules on the same items have.
"""

from __future__ import annotations

from collections.abc import Sequence

from slipway.errors import DataError


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses of a family are rejected at family-wise level `alpha`, in the order given.

    The smallest p is compared with alpha / k, the next with alpha / (k - 1), ...; the first that is larger ends it.
    Raises DataError for a p outside 0..1.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise DataError("p-value", p, "a number from 0 to 1", "report this: a test computed it")
    rejected = [False] * len(p_values)
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[at] > alpha / (len(p_values) - rank):
            break
        rejected[at] = True
    return rejected


def trial_alpha(alpha: float, trials: int) -> float:
    """One-sided level of each test against the best release of a line, where that is no longer the champion.

        alpha / trials

    Then every candidate for the next release is held to the same best release on much the same items, week after week,
    until one is shown to be better than it. At `alpha` each time, one that is worse by the margin would pass some day;
    this way the chance that any of `trials` such candidates does is at most alpha (Bonferroni). Raises DataError for
    fewer than one trial.
    """
    if trials < 1:
        raise DataError("trials against one best release", trials, "1 or more", "set gate.trials")
    return alpha / trials
