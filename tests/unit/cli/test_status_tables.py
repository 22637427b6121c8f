"""`slipway status` as tables: who has the machine, who waits, and what a name may hold."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.cli.status_tables import show_status

EMPTY: dict[str, Any] = {
    "services": [],
    "target": "local",
    "clients": "no release yet",
    "releases": [],
    "holds": [],
    "mirror": {"sentence": ""},
    "store": "/s",
    "freeable": {"count": 0, "bytes": 0},
    "artifacts": {},
    "training": [],
    "runs": [],
    "stages": [],
    "served": [],
    "leftovers": [],
}


def shown(capsys: pytest.CaptureFixture[str], **machine: Any) -> str:
    """What is printed for a machine in this state, at a width that cuts nothing."""
    show_status({**EMPTY, "machine": {"host": "h", "holder": None, "waiting": [], "problem": "", **machine}})
    return capsys.readouterr().out


def wish(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "priority": "training", "pid": 7, "seconds": 75.0, **more}


def test_a_free_machine_has_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert "machine" not in shown(capsys)


def test_a_holder_whose_run_is_gone_has_the_next_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = shown(capsys, holder=wish("train [/bold]", followed=False), waiting=[wish("serve m", priority="serving")])
    assert "train [/bold]" in text and "its run is gone: `slipway run` takes it up, `stop` ends it" in text
    (row,) = [line for line in text.splitlines() if line.startswith("serve m")]
    assert row.split() == ["serve", "m", "serving", "7", "waits", "1", "min", "15", "s"]
    assert "its run is gone" not in shown(capsys, holder=wish("train", followed=True))


def test_a_wish_alone_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "serve m" in shown(capsys, waiting=[wish("serve m")])


@pytest.mark.parametrize(
    "digest, titles", [("f" * 64, ["release", "engine", "index"]), ("", ["release", "engine", "made"])]
)
def test_the_index_of_a_release_is_a_column_where_any_has_one(
    digest: str, titles: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    common = {"created": "2026-11-30", "state": "kept", "url": None, "engine": "e" * 64}
    releases = [{"name": "0001-eeee", "index": "", **common}, {"name": "0002-eeee", "index": digest, **common}]
    show_status({**EMPTY, "releases": releases, "machine": {"host": "h", "holder": None, "waiting": [], "problem": ""}})
    lines = capsys.readouterr().out.splitlines()
    (head,) = [line.split() for line in lines if line.startswith("release")]
    first, second = ([*line.split()] for line in lines if line.startswith("000"))
    assert head[:3] == titles
    assert (first[2], second[2]) == (("none", "f" * 12) if digest else ("2026-11-30", "2026-11-30"))
