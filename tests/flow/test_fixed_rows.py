"""A retrain is compared with the champion on the rows that it was tested on, and on new ones by themselves."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from slipway.data.row_table import asked
from slipway.deployment.state import status
from slipway.ops.chain.earlier_data import dataset_of
from tests.support.flow_world import MARKS, Outcome, World
from tests.support.world import DEVICES, OFF, WORDINGS, row

pytestmark = MARKS
MORE = ["get the {} going before dinner", "the {} has to run until midnight", "bring {} back to life"]
ALL = {"evaluate.max_items": "null"}  # test rows
RULE = "{rule: non_inferiority, metric: json_exact, against: champion, margin: 0.9"


def write(path: Path, wordings: list[tuple[str, list[str]]], devices: list[str], seed: int) -> None:
    """Rows in a random order, so that ids, which are line numbers, name other rows each time."""
    rows = [row(w.format(d), intent, d) for intent, texts in wordings for w in texts for d in devices]
    random.Random(seed).shuffle(rows)
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


def texts(world: World, split: str) -> set[int]:
    """What the rows of a split of the champion's data ask."""
    release = status(world.config().deploy).release
    assert release
    data = dataset_of(world.folder / "store", release.digests["dataset"])
    assert data
    lines = (data.path / f"{split}.jsonl").read_text().splitlines()
    return {asked(json.loads(line)) for line in lines}


@pytest.fixture(scope="module")
def retrained(world: World) -> tuple[Outcome, dict[str, set[int]]]:
    """A run, and one on a version with more rows in another order; what the first was trained and tested on."""
    known = [("On", WORDINGS), ("Off", OFF)]
    world.config()
    write(world.folder / "rows.jsonl", known, DEVICES, 1)
    assert world.go().state.is_completed()
    before = {split: texts(world, split) for split in ("train", "val", "test")}
    write(world.folder / "rows.jsonl", [*known, ("On", MORE)], [*DEVICES, "oven", "blind"], 2)
    return world.go(**ALL), before


def test_the_test_rows_of_the_champion_stay_and_none_of_them_is_learnt(
    world: World, retrained: tuple[Outcome, dict[str, set[int]]]
) -> None:
    second, before = retrained
    assert second.state.is_completed(), second.state.message
    assert second.reused()["prepare"] is False
    now = {split: texts(world, split) for split in ("train", "val", "test")}
    assert before["test"] <= now["test"], "this version has them all"
    assert not before["test"] & (now["train"] | now["val"])
    assert not (before["train"] | before["val"]) & now["test"]
    with get_client(sync_client=True) as client:
        artifacts = {a["key"]: a for a in client.request("POST", "/artifacts/latest/filter", json={}).json()}
    groups: list[dict[str, Any]] = json.loads(artifacts["since-the-champion"]["data"])
    assert {one["rows"].split(":")[0] for one in groups} == {"the fixed test set", "new rows"}


def test_the_same_version_again_has_nothing_to_do(world: World, retrained: tuple[Outcome, dict[str, set[int]]]) -> None:
    assert retrained[0].state.is_completed()
    third = world.go(**ALL)
    assert (third.state.name, third.state.message) == (
        "Cached",
        "every stage was reused and this engine serves already",
    )


def test_the_gate_decides_on_new_rows_and_on_fixed_ones(
    world: World, retrained: tuple[Outcome, dict[str, set[int]]]
) -> None:
    """A pico model answers nothing right, and neither does its champion: rules on some rows say so of those."""
    _, before = retrained
    judged = world.go(**ALL, **{"gate.rules": f"[{RULE}}}, {RULE}, rows: new}}, {RULE}, rows: fixed}}]"})
    assert [stage for stage, reused in judged.reused().items() if not reused] == ["gate"]
    rules = {rule["against"]: rule for rule in judged.summary["gate"]["rules"] if rule["rule"] == "non_inferiority"}
    on_all, new, fixed = (rules[f"champion{some}"]["items"] for some in ("", " on new rows", " on fixed rows"))
    assert fixed == len(before["test"]) and new > 0 and on_all == new + fixed
