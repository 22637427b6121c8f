"""A retrained candidate against the champion, apart for the rows that both were always tested on and for new ones.

The gate compares the two on every test row of the candidate's data. Test rows of the champion stay test rows in later
versions (`data.earlier_rows`), and rows that are new may join them. Where a test split was drawn anew it may hold rows
that the champion learnt: its answers there say nothing of it. Rows are known again by what they ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.data.earlier_rows import since
from slipway.evaluation.metric import read_items, read_metrics
from slipway.evaluation.paired_rules import Evaluated, paired_differences
from slipway.report.markdown import estimate
from slipway.store.artifacts import Dataset, Evaluation

FIXED = "the fixed test set: tested for the champion too"
NEW = "new rows: neither learnt nor tested before"
CONFIDENCE = 0.9
LEARNT = "rows that the champion learnt: no comparison"


def groups_of(data: Dataset, before: Dataset) -> dict[str, str]:
    """Each test row's group by its id: FIXED, NEW or LEARNT. `before`: the data that the champion came of."""
    names = {"fixed": FIXED, "new": NEW, "learnt": LEARNT}
    return {row: names[what] for row, what in since(data, before).items()}


def rows_since(candidate: Evaluation, champion: Evaluation, groups: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each group with items, and metric: items, and candidate minus champion with an interval of 90 %, where
    positive is better. Raises DataError when the two were not evaluated on the same items."""
    return list(_rows(candidate, champion, groups))


def _rows(candidate: Evaluation, champion: Evaluation, groups: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    ours, theirs = read_items(candidate), read_items(champion)
    metrics = read_metrics(candidate), read_metrics(champion)
    for group in (FIXED, NEW, LEARNT):
        sides = [[item for item in items if groups.get(str(item["id"])) == group] for items in (ours, theirs)]
        if not sides[0]:
            continue
        if group == LEARNT:
            yield {"rows": group, "items": len(sides[0]), "metric": "", "candidate - champion": ""}
            continue
        candidate_side, champion_side = (
            Evaluated(items, document) for items, document in zip(sides, metrics, strict=True)
        )
        for difference in paired_differences(candidate_side, champion_side, CONFIDENCE, "champion").values():
            yield {
                "rows": group,
                "items": difference["n"],
                "metric": difference["title"],
                "candidate - champion": estimate(difference, signed=True),
            }
