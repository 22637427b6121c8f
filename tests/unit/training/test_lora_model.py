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


def test_qlora_trains_on_the_values_of_nf4(directory: str) -> None:
    exact, rounded = (load_model(directory, PARAMS.model_copy(update={"method": m})) for m in ("lora", "qlora"))
    plain, nf4 = (dict(model.get_base_model().named_parameters()) for model in (exact, rounded))
    frozen = [name for name in plain if name.endswith(("proj.weight", "base_layer.weight"))]
    assert len(frozen) == 4 * 7 and plain.keys() == nf4.keys()
    for name in frozen:
        values = nf4[name]
        assert values.dtype == torch.float32 and not torch.equal(values, plain[name])
        blocks = values.flatten()[: values.numel() // 64 * 64].reshape(-1, 64)
        assert max(len(block.unique()) for block in blocks) <= 16, "four bits of a block's scale"


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
