"""`slipway watch`: what it hands to the flow, and how a look is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.cli import flows, watch_command
from slipway.cli.watch_command import show_watch
from slipway.errors import ConfigError
from tests.support.looks import look_document


def test_the_target_is_a_layer_and_settings_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[Any] = []
    monkeypatch.setattr(flows, "_become", lambda name, words: handed.append((name, words)))
    watch_command.watch("spark", ["watch.items=200"], Path("conf"), True)
    words = ["--conf", "conf", "--set", "layers.deploy=deploy/spark", "--set", "watch.items=200", "--json"]
    assert handed == [("watch", words)]


def test_outside_of_the_project_it_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"flows/watch\.py"):
        watch_command.watch("local")


def test_drift_is_shown_with_its_next_step_and_exits_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_watch(look_document(30), False) == 3
    text = " ".join(capsys.readouterr().out.split())
    assert "60 of 60 test rows answered, 0 of 4 captured prompts compared, 4 no chat" in text
    assert "json_exact drift 100.0% 50.0%" in text
    assert "next: `slipway rollback local`" in text and text.endswith("not judged: nll, no answers say it a note")


def test_no_drift_exits_with_0_and_json_has_the_whole_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_watch(look_document(), True) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["outcome"], document["next_step"], len(document["checks"])) == ("ok", "", 7)


def test_a_scheduled_look_without_a_release_has_nothing_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_watch(None, False) == 0
    assert capsys.readouterr().out == ""
