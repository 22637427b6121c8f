"""`slipway recipe` and `slipway pin`; test_tune has `slipway tune`."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import ConfigError


def test_a_recipe_is_yaml_on_stdout_and_its_memory_on_stderr() -> None:
    done = CliRunner().invoke(app, ["recipe", "--model", "llama-3.3-70b", "--target", "spark"], catch_exceptions=False)
    assert yaml.safe_load(done.stdout)["peft"]
    assert "GB" in done.stderr and "spark" in done.stderr


def test_a_recipe_as_json_names_its_row() -> None:
    done = CliRunner().invoke(app, ["recipe", "--json"], catch_exceptions=False)
    document = json.loads(done.stdout)
    assert document["train_row"] == "nemo-qlora" and document["memory_gb"]["step"] > 0


def test_an_image_that_has_no_row_is_refused_before_a_registry_is_asked() -> None:
    with pytest.raises(ConfigError, match=r"image: nothing; expected one of .*nemo-automodel"):
        CliRunner().invoke(app, ["pin", "nothing"], catch_exceptions=False)
