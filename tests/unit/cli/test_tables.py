"""What the commands show: every value that was given stands in the table, whole, and nothing else is guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.cli import tables
from slipway.config.load import Config
from slipway.deployment.releases import Stopped
from slipway.errors import ConfigError
from slipway.ops.doctor import Check
from slipway.ops.stage_processes import StageProcess
from slipway.ops.stop import StopReport

LONG = "/srv/" + "deep/" * 40 + "model"


def test_json_is_whole_and_knows_paths(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_json({"path": Path("/a"), "n": 1})
    assert json.loads(capsys.readouterr().out) == {"path": "/a", "n": 1}


def test_an_error_is_three_lines_on_standard_error_and_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_error(ConfigError("key [bold]x[/]", LONG, "a [list]", "mend it"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"key [bold]x[/]: {LONG}", "  expected  a [list]", "  next      mend it"]


def test_figures_with_units(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_figures(Path(LONG), {"bytes": 16_060_000_000, "gb_per_s": 1.23456, "tensors": 291})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == LONG
    assert [line.split() for line in lines[1:]] == [
        ["figure", "value"],
        ["bytes", "16.1", "GB"],
        ["gb", "per", "s", "1.235"],
        ["tensors", "291"],
    ]


def test_every_key_of_the_config_is_shown_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_config(Config())
    lines = capsys.readouterr().out.splitlines()
    keys = [line.split()[0] for line in lines[1:]]
    assert {"train.lr", "deploy.root", "quantize.format", "store.cache"} <= set(keys)
    assert len(keys) == len(set(keys)), "one line a key"


def test_checks_in_full_and_only_those_that_need_attention(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [Check("python", "ok", "3.11", ""), Check("disk: store", "fail", "[1] GB", "free some")]
    tables.show_checks(checks, quiet=False)
    assert len(capsys.readouterr().out.splitlines()) == 3
    tables.show_checks(checks, quiet=True)
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["disk:", "store", "fail", "[1]", "GB", "free", "some"]
    ]
    tables.show_checks(checks[:1], quiet=True)
    assert capsys.readouterr().out == "doctor: 1 checks, all well\n"


def test_pins(capsys: pytest.CaptureFixture[str]) -> None:
    digest = "sha256:" + "a" * 64
    tables.show_pins({"nemo": {"amd64": digest, "arm64": digest}})
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["nemo", "amd64", digest],
        ["nemo", "arm64", digest],
    ]


def test_what_was_stopped_and_that_nothing_was(capsys: pytest.CaptureFixture[str]) -> None:
    report = StopReport(
        engines=[Stopped("0001-ab", 42, "http://[::1]:8091/v1")],
        stages=[StageProcess("train_cpu-0123", 43, followed=False)],
    )
    tables.show_stopped(report, "local")
    assert capsys.readouterr().out.splitlines() == [
        "stopped release 0001-ab: pid 42, http://[::1]:8091/v1",
        "stopped stage train_cpu-0123: pid 43; `slipway run` resumes it",
    ]
    tables.show_stopped(StopReport(), "local")
    assert capsys.readouterr().out == "nothing ran on target local\n"
