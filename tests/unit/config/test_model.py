"""The model section: a directory model names its directory; sizes are positive."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.model import ModelConfig


def test_a_directory_model_names_its_directory():
    with pytest.raises(ValidationError, match=r"model\.directory is empty"):
        ModelConfig(source="directory")
    assert ModelConfig(source="directory", directory="/models/mine").directory == "/models/mine"


@pytest.mark.parametrize("keys", [{"parameters_b": 0}, {"layers": 0}, {"heads": 0}, {"name": "x" * 101}], ids=str)
def test_sizes_are_positive_and_names_short(keys):
    with pytest.raises(ValidationError, match=next(iter(keys))):
        ModelConfig(**keys)


def test_the_embedded_model_is_pinned():
    assert len(bytes.fromhex(ModelConfig().sha256)) == 32
    assert ModelConfig().hidden % ModelConfig().heads == 0
