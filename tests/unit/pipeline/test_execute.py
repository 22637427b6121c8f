"""The stage process: a wrong or absent stage file is named."""

import json

import pytest

from slipway.errors import ConfigError
from slipway.pipeline.execute import execute


def test_an_absent_stage_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"expected an existing stage\.json"):
        execute("merge", tmp_path / "stage.json")


def test_a_stage_file_of_another_stage_is_named_with_the_command_that_fits(tmp_path):
    (tmp_path / "stage.json").write_text(json.dumps({"stage": "train"}))
    with pytest.raises(ConfigError, match="for stage train; expected stage merge"):
        execute("merge", tmp_path / "stage.json")
