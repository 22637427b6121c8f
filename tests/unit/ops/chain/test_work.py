"""How much a stage has to do."""

from __future__ import annotations

import shutil
from pathlib import Path

from slipway.config.load import Config
from slipway.ops.chain.work import of_pass, of_prepare, parameters_of
from tests.support.made_chain import PARAMETERS, make_chain


def test_parameters_are_those_of_the_base_model_however_far_back(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    assert {parameters_of(made[name]) for name in ("base", "merged", "quantized", "engine")} == {PARAMETERS}
    assert of_pass("merge", made["engine"]).amount == PARAMETERS


def test_a_base_model_that_was_pruned_says_nothing(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    shutil.rmtree(made["base"].path)
    assert parameters_of(made["engine"]) == 0


def test_rows_are_bytes_of_a_file_or_of_all_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for name in ("a", "b"):
        (tmp_path / "rows" / name).write_text("12345")
    assert of_prepare(tmp_path / "rows" / "a").amount == 5
    assert of_prepare(tmp_path / "rows").amount == 10
