"""The base that the embedded trainer adapts: what is quantized, and which layers get adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from slipway.config.train import TrainConfig
from slipway.errors import ConfigError
from slipway.training.lora_model import load_model, lora_config
from tests.support.pico import pico_model

PARAMS = TrainConfig(rank=4, upper_layers=2)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(pico_model(tmp_path / "base"))


def test_qlora_holds_nf4_weights(directory: str) -> None:
    model = load_model(directory, PARAMS)
    assert "Linear4bit" in {type(m).__name__ for m in model.modules()}
    assert len([p for p in model.parameters() if p.dtype == torch.uint8]) == 4 * 7


def test_lora_holds_fp32_weights_and_adapts_the_upper_layers_only(directory: str) -> None:
    model = load_model(directory, PARAMS.model_copy(update={"method": "lora"}))
    adapted = {name.split("layers.")[1].split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert adapted == {"2", "3"}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_more_layers_than_the_model_has_are_refused(directory: str) -> None:
    with pytest.raises(ConfigError, match=r"train.upper_layers: 9; expected at most the model's 4 layers"):
        load_model(directory, PARAMS.model_copy(update={"upper_layers": 9}))


def test_all_layers_need_no_list_of_layers() -> None:
    assert lora_config(PARAMS, 2).layers_to_transform is None
    assert lora_config(PARAMS, 4).layers_to_transform == [2, 3]
