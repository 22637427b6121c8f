"""What `slipway history` prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.ops import history as past
from tests.support.made_chain import make_chain
from tests.support.world import small_config

JUDGED = ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z")


def ran(*words: str) -> Any:
    return CliRunner().invoke(app, ["history", *words], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for a store with two versions."""
    folder = tmp_path_factory.mktemp("history")
    fixed: dict[str, object] = {"store.root": folder / "store", "deploy.root": folder / "target"}
    for judged, lr in zip(JUDGED, (0.1, 0.2), strict=True):
        more = {"evaluate.reference": "served", "train.lr": lr}
        make_chain(small_config(folder / "world", "sqlite:///h.db", 1, **fixed, **more), folder / "world", lr, judged)
    return [word for key, value in fixed.items() for word in ("--set", f"{key}={value}")]


def test_the_list_and_the_difference_of_two(settings: list[str]) -> None:
    store = Path(settings[1].removeprefix("store.root="))
    first, second = past.versions(store)[0]
    shown = ran(*settings)
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("2026")] == [
        [judged, version.verdict[:12]] for judged, version in zip(JUDGED, (first, second), strict=True)
    ]
    compared = ran(second.verdict[:8], *settings)
    assert compared.output == ran(first.verdict[:8], second.engine[:8], *settings).output
    assert any(line.split() == ["train_cpu", "lr", "0.1", "0.2"] for line in compared.output.splitlines())
    assert any(line.split() == ["json_exact", "0.1000", "0.2000", "+0.1000"] for line in compared.output.splitlines())
    document = json.loads(ran(second.verdict[:8], "--json", *settings).output)
    assert document["changes"] == {"train_cpu": [{"field": "lr", "before": "0.1", "now": "0.2"}]}
    assert [row["verdict"] for row in json.loads(ran("--json", *settings).output)["versions"]] == [
        first.verdict, second.verdict,
    ]  # fmt: skip


def test_what_cannot_be_compared_is_one_error(settings: list[str]) -> None:
    first = past.versions(Path(settings[1].removeprefix("store.root=")))[0][0]
    for words, message in (
        ((first.verdict[:8],), "name two"),
        (("0123456",), "slipway history"),
        (("a", "b", "c"), "one or two"),
    ):
        error = ran(*words, *settings).exception
        assert message in str(error), error


def test_an_empty_store_says_what_fills_it(tmp_path: Path) -> None:
    shown = ran("--set", f"store.root={tmp_path}", "--set", f"deploy.root={tmp_path}/t")
    assert "`slipway run` makes one" in shown.output
