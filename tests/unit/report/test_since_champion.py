"""Candidate against champion on the fixed test set and on new rows."""

from __future__ import annotations

import json
from pathlib import Path

from slipway.report.since_champion import FIXED, LEARNT, NEW, groups_of, rows_since
from slipway.store.artifacts import Dataset, Evaluation
from slipway.store.store import Store, load
from tests.support.evaluations import evaluation
from tests.support.world import row


def dataset(store: Store, name: str, **splits: list[str]) -> Dataset:
    """A dataset of these requests; ids are numbers of lines, as of a file without ids."""
    with store.create(Dataset, name, {}) as out:
        for split in ("train", "val", "test"):
            rows = [{"id": f"line-{n}", **row(text, "On", "lamp")} for n, text in enumerate(splits.get(split, []))]
            rows = [{**one, "label": "On", "template": "t"} for one in rows]
            (out / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return load(Dataset, store.dir("dataset", name))


def test_rows_are_known_again_by_what_they_say(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    before = dataset(store, "a", train=["learnt", "x"], val=["looked at"], test=["asked", "asked too"])
    now = dataset(store, "b", train=["y"], test=["new", "asked too", "learnt", "looked at", "asked"])
    groups = [groups_of(now, before)[f"line-{n}"] for n in range(5)]
    assert groups == [NEW, FIXED, LEARNT, LEARNT, FIXED]


def test_each_group_has_its_difference_and_what_was_learnt_has_none(tmp_path: Path) -> None:
    """The first ten items are new and wrong for the champion alone; of the last five nothing is said."""
    sides = [Evaluation(uri=str(evaluation(tmp_path / f"{n}", n)), digest="d") for n in (0, 10)]
    groups = {f"r{i}": NEW if i < 10 else FIXED if i < 35 else LEARNT for i in range(40)}
    rows = {one["rows"]: one for one in rows_since(*sides, groups)}
    assert [(name, one["items"]) for name, one in rows.items()] == [(FIXED, 25), (NEW, 10), (LEARNT, 5)]
    assert rows[NEW]["candidate - champion"].startswith("+100")
    assert rows[FIXED]["candidate - champion"].startswith(("+0", "0"))
    assert rows[LEARNT]["candidate - champion"] == ""
    assert rows_since(*sides, {}) == []
