"""What was asked of a release at its target before the switch, in words for a person.

Short because who asks the candidate and who knows the release both say it, and neither may know the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_pairs(checks: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was asked of a release at its target before the switch, in words: what and outcome."""
    probe, index = checks.get("probe"), checks.get("index")
    searched = [("index before the switch", index_words(index))] if isinstance(index, Mapping) else []
    if not isinstance(probe, Mapping):
        return searched
    asked = probe.get("refused") or f"{probe.get('rows')} asked, {probe.get('tokens')} tokens compared: as evaluated"
    agreement = probe.get("agreement")
    rows = [("recorded answers at the target", str(asked)), *searched]
    return rows + ([("kernel agreement at the target", agreement_words(agreement))] if agreement else [])


def index_words(report: Mapping[str, Any]) -> str:
    """What the probes of a release's index found (`deployment.release_index`), or why they were not searched again."""
    digest = str(report.get("digest"))[:12]
    if "refused" in report:
        return f"{digest}, probes not searched again: {report['refused']}"
    named = " and ".join(str(one) for one in report.get("retrievers", ()))
    return f"{digest}, {report.get('probes')} probes find what they found, by {named}"


def agreement_words(verdict: Mapping[str, Any]) -> str:
    """A verdict of kernel agreement for a person: its figures, or why there is none."""
    if "refused" in verdict:
        return f"not checked, {verdict['refused']}"
    return (
        f"{verdict['outcome']}, off by {verdict['ratio']:.3g} times what rounding does (limit "
        f"{verdict['ratio_limit']:.3g}), {verdict['tokens']} tokens of {verdict['answers']} answers"
    )
