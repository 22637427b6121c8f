"""The choice as a page that people read: what won, why, and every arm's figures on both halves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OUTCOMES = {
    "decided": "every other arm is worse, shown at the level below",
    "tied": "the cheapest of the arms that are as good as the best",
    "undecided": "the questions cannot tell; the first arm stays unless it is shown to be worse",
}


def card(document: Mapping[str, Any]) -> str:
    """Markdown of a choice document (`slipway.rag.choice.choose`)."""
    head = f"# Retrieval: {document['winner']}\n\n{document['outcome']}: {OUTCOMES[document['outcome']]}.\n\n"
    return head + f"{reasons(document)}\n\n" + table(document)


def reasons(document: Mapping[str, Any]) -> str:
    """How the choice was made, in sentences."""
    halves = document["questions"]
    by = f"{document['resampled_by']}s ({document['documents']} documents)"
    lines = [
        f"Chosen on {halves['choose']} questions, reported on the other {halves['report']}; resampled by {by};"
        f" level {document['confidence']:.0%} with Holm's correction; margin {document['margin']:g}.",
        f"Best on the choosing half: {document['best']}. As good: {', '.join(document['tie'])}."
        f" Widest interval against the best: +-{document['widest_in_tie']:.3f} of these,"
        f" +-{document['widest_half_width']:.3f} of all.",
    ]
    if document["questions_needed"]:
        lines.append(f"About {document['questions_needed']:,} questions would decide.")
    return "\n".join(lines)


def table(document: Mapping[str, Any]) -> str:
    """A row an arm: recall on both halves, the difference from the best and from the winner, cost."""
    head = (
        "| arm | recall, choosing half | best minus this | apart | recall, reporting half (interval) "
        "| winner minus this | hit@10 | nDCG@10 | chunks | ms |\n|---|---|---|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(_row(one, document["metrics"].get(one["arm"], {})) for one in document["arms"])


def _row(one: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    cells = [
        one["arm"],
        f"{one['choose']:.3f}",
        interval(one["choose_difference"], signed=True),
        "yes" if one["apart"] else "as good" if one["in_tie"] else "no",
        interval(one["report"]),
        interval(one["report_difference"], signed=True),
        f"{metrics.get('hit@10', float('nan')):.3f}",
        f"{metrics.get('ndcg@10', float('nan')):.3f}",
        f"{one['costs']['chunks']:,.0f}",
        f"{metrics.get('p50_ms', float('nan')):.1f}",
    ]
    return f"| {' | '.join(cells)} |\n"


def interval(one: Mapping[str, float], *, signed: bool = False) -> str:
    """`0.612 (0.561 to 0.660)`."""
    form = "{:+.3f}" if signed else "{:.3f}"
    value, low, high = (form.format(one[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
