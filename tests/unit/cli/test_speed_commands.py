"""`slipway bench` and `compare`: tables with n, documents for programs, and honest ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import CheckpointError, ConfigError, DataError, ResourceError
from tests.support.evaluations import evaluation
from tests.support.pico import pico_model
from tests.support.record import record
from tests.support.timed_server import Script, timed

SMALL = ("--concurrency", "1,2", "--requests", "4", "--output-tokens", "2-4")


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_bench_shows_n_and_says_which_percentiles_it_leaves_out() -> None:
    with timed(Script()) as url:
        done = invoke("bench", url, *SMALL)
    assert done.exit_code == 0
    assert "by slipway asyncio 2" in done.stdout
    assert "a p95 needs --requests 100" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line[:1].isdigit()]
    assert [row[:3] for row in rows] == [["1", "4", "0"], ["2", "4", "0"]]


def test_bench_of_a_known_model_has_its_share_of_the_roofline(tmp_path: Path) -> None:
    pico_model(tmp_path / "m")
    with timed(Script()) as url:
        done = invoke("bench", url, *SMALL, "--model-dir", tmp_path / "m", "--bandwidth", "10")
    assert done.stdout.count("of the roofline") == 2
    with pytest.raises(ConfigError, match="both or none"):
        invoke("bench", "http://127.0.0.1:1", "--bandwidth", "10")
    with pytest.raises(CheckpointError):
        invoke("bench", "http://127.0.0.1:1", "--bandwidth", "10", "--model-dir", tmp_path)


def test_bench_as_json_is_a_document() -> None:
    with timed(Script(eos_after=2)) as url:
        done = invoke("bench", url, "--model", "other", *SMALL, "--json")
        table = invoke("bench", url, *SMALL)
    document = json.loads(done.stdout)
    assert (document["model"], len(document["runs"])) == ("other", 2)
    assert "ended before their length" in table.stdout


def test_bench_of_nobody_is_a_missing_service_and_exit_code_4() -> None:
    with timed(Script()) as url:
        pass
    with pytest.raises(ResourceError) as err:
        invoke("bench", url, "--model", "m", *SMALL)
    assert err.value.exit_code == 4


def test_a_key_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    with pytest.raises(ConfigError, match="A_KEY"):
        invoke("bench", "http://127.0.0.1:1", "--key-variable", "A_KEY")
    monkeypatch.setenv("A_KEY", "line\nbreak")
    with pytest.raises(ConfigError, match="printable"):
        invoke("bench", "http://127.0.0.1:1", "--key-variable", "A_KEY")
    monkeypatch.setenv("A_KEY", "abc")
    with timed(Script()) as url:
        assert invoke("bench", url, *SMALL, "--key-variable", "A_KEY").exit_code == 0


def test_two_benches_side_by_side_and_unlike_ones_refused(tmp_path: Path) -> None:
    with timed(Script()) as url:
        for name, lengths in (("a", "2-4"), ("b", "2-4"), ("c", "3-5")):
            done = invoke("bench", url, *SMALL[:4], "--output-tokens", lengths, "--json")
            (tmp_path / name).write_text(done.stdout)
    shown = invoke("compare", tmp_path / "a", tmp_path / "b")
    assert "tokens per s" in shown.stdout and "B / A" in shown.stdout
    document = json.loads(invoke("compare", tmp_path / "a", tmp_path / "b", "--json").stdout)
    assert [row["concurrency"] for row in document["speed"]] == [1, 2]
    with pytest.raises(DataError, match="output_tokens"):
        invoke("compare", tmp_path / "a", tmp_path / "c")


def test_versions_of_the_store_are_named_by_their_digits(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    shutil.copytree("conf", conf)
    base = conf / "base.yaml"
    base.write_text(base.read_text() + f"\nstore:\n  root: {tmp_path / 'store'}\n")
    run = record(tmp_path)
    for side, wrong in (("merged", 0), ("candidate", 4)):
        made = evaluation(tmp_path / side, wrong=wrong)
        for name in ("items.jsonl", "metrics.json"):
            shutil.copy2(made / name, run.quality[side].path / name)
    words = (run.quality["merged"].digest[:8], run.verdict.digest[:8])
    document = json.loads(invoke("compare", *words, "--conf", conf, "--json").stdout)
    assert document["quality"]["json_exact"]["value"] == -0.1
    with pytest.raises(ConfigError, match="measurement 999999"):
        invoke("compare", words[0], "999999", "--conf", conf)


def test_two_evaluations_side_by_side(tmp_path: Path) -> None:
    sides = [evaluation(tmp_path / "a"), evaluation(tmp_path / "b", wrong=4)]
    shown = invoke("compare", *sides, "--page", tmp_path / "page.html").stdout
    assert "exact JSON" in shown and "-10.0" in shown
    assert "<svg" in (tmp_path / "page.html").read_text()
    with pytest.raises(ConfigError, match="--page"):
        invoke("compare", *sides, "--page", tmp_path / "none" / "page.html")
