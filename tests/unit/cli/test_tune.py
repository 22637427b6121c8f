"""`slipway tune`: its folder, its model directory, before anything starts."""

from pathlib import Path

import pytest

from slipway.cli.tune import TuneOptions, run_tune
from slipway.config.load import load_config
from slipway.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def options(work: Path, model: Path) -> TuneOptions:
    return TuneOptions(60.0, model, None, True, "python3", None, work)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("mine")
    (tmp_path / "config.json").write_text("{}")
    config = load_config(ROOT / "conf", ["layers.train=train/nemo-qlora", "layers.target=targets/dgx-h100"])
    with pytest.raises(ConfigError, match="not empty"):
        run_tune(config, options(tmp_path / "work", tmp_path), as_json=True)
    assert (tmp_path / "work" / "thesis.tex").read_text() == "mine"


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    config = load_config(ROOT / "conf", ["layers.train=train/nemo-qlora", "layers.target=targets/dgx-h100"])
    with pytest.raises(ConfigError, match=r"--model-dir: .*expected a Hugging Face model directory"):
        run_tune(config, options(tmp_path / "work", tmp_path), as_json=True)
    assert not (tmp_path / "work").exists()
