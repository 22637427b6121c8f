"""Levels of many tests at once: which families of the gate's tests are corrected, by what, and why the others are not.

    all must pass    "no worse than the reference" in every metric and against every reference. The gate passes only if
                     each test rejects at alpha, so it passes a candidate that is inferior anywhere with a probability
                     of at most alpha: an intersection-union test. A correction would cost power and protect nothing.
                     Berger (1982), Technometrics 24:295-300; Berger, Hsu (1996), Stat. Sci. 11:283-319.
    any one fails    "worse than the margin" in at least one of k paired rules. Each test may err, and so errors add up:
                     Holm's procedure over the k keeps the chance of any wrong `fail` at alpha.
    any one gains    "better than the champion" in at least one of k metrics: Holm, for the same reason.
    trials           candidate after candidate held to the same best release: see `trial_alpha`.
    looks            at some test rows first, at all where that decided nothing: see `look_alpha`.

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
    """One-sided level of each test against the best release of a line, and of each that makes another release the best.

        alpha / (2 trials)

    Every candidate for the next release is held to the same best release on much the same items, week after week, until
    one is shown to be better than it. At `alpha` each time, one that is worse by the margin would pass some day; and
    one that is no better would be taken for better, and what comes after it be held to less. With half of alpha for
    each of both, the chance that either happens in `trials` candidates is at most alpha (Bonferroni): with the rest of
    the probability no release is worse than the best one by more than the margin. Raises DataError for fewer than one
    trial.
    """
    if trials < 1:
        raise DataError("trials against one best release", trials, "1 or more", "set gate.trials")
    return alpha / (2 * trials)


def look_alpha(alpha: float, share: float) -> float:
    """One-sided level of each of two looks, the first at `share` of the test rows; `alpha` itself where that is all.

        alpha / 2

    Both together err at most as often as one test at alpha does, whatever the second look shares with the first
    (Bonferroni). Boundaries that spend all of alpha (Lan, DeMets 1983, Biometrika 70:659-663) need the joint
    distribution of both looks, corr = sqrt(share) for independent rows. Test rows come in templates, some in both
    looks, and score intervals of few discordant pairs are no exact normals: Pocock's type of these boundaries erred in
    5.75% instead of 5%, this split errs in 4.1% (`benchmarks.gate_simulation`, 10,000 pairs). Raises DataError for a
    share outside 0..1.
    """
    if not 0 < share <= 1:
        raise DataError(
            "first look at the test rows", f"a share of {share}", "0 < share <= 1", "report this: the gate computed it"
        )
    return alpha if share == 1 else alpha / 2
