"""`slipway capacity`: users that fit, as a table and as JSON; what cannot be told is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import ConfigError
from slipway.planning.kv_cache import UnknownCacheError


def capacity(*words: str) -> str:
    return CliRunner().invoke(app, ["capacity", *words], catch_exceptions=False, env={"COLUMNS": "200"}).stdout


def test_users_and_the_ways_out_are_shown() -> None:
    shown = capacity("--model", "llama-3.3-70b", "--users", "64", "--target", "spark")
    assert "22 of 64 asked for" in shown
    assert shown.index("way out: FP8 KV cache") < shown.index("spark-pair with 2 GPU(s)") < shown.index("dgx-h100 with")


def test_as_json_on_this_machine_without_a_gpu() -> None:
    document = json.loads(capacity("--target", "local", "--users", "1", "--context", "256", "--json"))
    assert (document["target"], document["ways_out"]) == ("local", [])
    assert document["users"] >= document["wish"]["users"] == 1


def test_a_directory_whose_cache_nobody_knows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "novel"}')
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(UnknownCacheError, match="cannot tell: model_type 'novel'"):
        capacity("--model", str(tmp_path))
    with pytest.raises(ConfigError, match="nowhere"):
        capacity("--model", "nowhere")
