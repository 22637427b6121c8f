"""Levels of many tests at once: which families of the gate's tests are corrected, by what, and why the others are not.

    all must pass    "no worse than the reference" in every metric and against every reference. The gate passes only if
                     each test rejects at alpha, so it passes a candidate that is inferior anywhere with a probability
                     of at most alpha: an intersection-union test. A correction would cost power and protect nothing.
                     Berger (1982), Technometrics 24:295-300; Berger, Hsu (1996), Stat. Sci. 11:283-319.
    any one fails    "worse than the margin" in at least one of k paired rules. Each test may err, and so errors add up:
                     Holm's procedure over the k keeps the chance of any wrong `fail` at alpha.
    any one gains    "better than the champion" in at least one of k metrics: Holm, for the same reason.
    departures       release after release held to the same best release: see `departure_alpha`.

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


def departure_alpha(alpha: float, departure: int) -> float:
    """One-sided level of the test against the best release of a line, for the `departure`-th release since it.

        alpha_s = alpha / (s (s - 1)),  s = 2, 3, ...;  their sum is alpha

    The first release after the best one is held to it as to its champion, at `alpha`. Each later one has the same best
    release as reference again: with one candidate for each step, the chance that any of them, truly worse than the
    best by the margin, passes is at most alpha, however long the chain. At the same level each time it would add up
    until one does. Raises DataError for a departure below 1.
    """
    if departure < 1:
        raise DataError("releases since the best one", departure, "1 or more", "check the target's history")
    return alpha if departure == 1 else alpha / (departure * (departure - 1))
