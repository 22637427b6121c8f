from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from slipway.engines.bundle import command, read_serve, usable_cores
from slipway.errors import EngineError
from tests.support.scripted_server import bundle


def test_the_command_line_says_all_that_decides_speed(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b", slots=4)
    argv = command(made, read_serve(made), "127.0.0.1", 8091)
    flags = {flag: value for flag, value in pairwise(argv[1:]) if flag.startswith("--")}
    assert argv[0] == str(made / "llama-server")
    assert flags["--ctx-size"] == str(4 * 512)
    assert (flags["--parallel"], flags["--threads"], flags["--port"]) == ("4", "1", "8091")
    assert flags["--cache-ram"] == "0"
    assert "--kv-unified" in flags


def test_threads_follow_the_cores_we_may_use(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b")
    serve = read_serve(made).model_copy(update={"threads": None})
    argv = command(made, serve, "127.0.0.1", 1)
    assert argv[argv.index("--threads") + 1] == str(usable_cores())


@pytest.mark.parametrize("name", ["serve.json", "model.gguf", "llama-server"])
def test_an_incomplete_bundle_names_what_is_missing(tmp_path: Path, name: str) -> None:
    made = bundle(tmp_path / "b")
    (made / name).unlink()
    with pytest.raises(EngineError, match=name):
        read_serve(made)


def test_a_bundle_for_another_cpu_is_refused_before_it_crashes(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b")
    doc = json.loads((made / "serve.json").read_text())
    (made / "serve.json").write_text(json.dumps({**doc, "cpu": "0123456789ab"}))
    with pytest.raises(EngineError, match="0123456789ab"):
        read_serve(made)


@pytest.mark.parametrize("text", ["{", '{"model": "m"}', "[]"])
def test_a_damaged_serve_config_is_named(tmp_path: Path, text: str) -> None:
    made = bundle(tmp_path / "b")
    (made / "serve.json").write_text(text)
    with pytest.raises(EngineError, match=r"serve\.json"):
        read_serve(made)
