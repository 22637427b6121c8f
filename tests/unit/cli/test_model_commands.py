"""`slipway merge` and `slipway quantize` on a tiny model: one document of figures, and refusals with exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import ConfigError, SlipwayError
from tests.support.pico import pico_adapter, pico_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    pico_model(folder)
    return folder


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_merge_writes_a_model_and_prints_its_figures(model: Path, tmp_path: Path) -> None:
    pico_adapter(tmp_path / "a")
    done = invoke("merge", model, tmp_path / "a", "--out", tmp_path / "out", "--json")
    figures = json.loads(done.stdout)
    assert figures["bytes"] > 0
    assert (tmp_path / "out" / "model.safetensors.index.json").exists() or list(
        (tmp_path / "out").glob("*.safetensors")
    )


def test_quantize_shows_its_figures_as_a_table(model: Path, tmp_path: Path) -> None:
    done = invoke("quantize", model, "--out", tmp_path / "out", "--format", "fp8-dynamic")
    assert str(tmp_path / "out") in done.stdout and "bytes" in done.stdout


def test_an_unknown_key_of_set_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"quantize\.nonsense"):
        invoke("quantize", model, "--out", tmp_path / "out", "--set", "nonsense=1")
    assert not (tmp_path / "out").exists()


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlipwayError):
        invoke("quantize", tmp_path / "none", "--out", tmp_path / "out")
