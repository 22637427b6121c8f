"""The values of NF4 weights in place of the codes: equal products, and none where memory is short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from slipway.training.nf4_values import hold_values
from tests.support.pico import pico_model


@pytest.fixture
def nf4(tmp_path: Path) -> Any:
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(
        pico_model(tmp_path / "base"), dtype=torch.float32, device_map={"": "cpu"}, quantization_config=settings
    )
    return model.requires_grad_(False)


def test_outputs_and_gradients_are_those_of_the_codes(nf4: Any) -> None:
    inputs = nf4.get_input_embeddings()(torch.arange(3, 40)[None]).requires_grad_()

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        logits = nf4(inputs_embeds=inputs, use_cache=False).logits
        return logits.detach(), torch.autograd.grad(logits.square().sum(), inputs)[0]

    codes = both()
    assert hold_values(nf4, 1e9)
    assert not any(isinstance(module, Linear4bit) for module in nf4.modules())
    assert not any(p.requires_grad for p in nf4.parameters())
    for value, code in zip(both(), codes, strict=True):
        torch.testing.assert_close(value, code)


def test_codes_stay_where_memory_is_short(nf4: Any) -> None:
    needed = sum(4 * m.in_features * m.out_features for m in nf4.modules() if isinstance(m, Linear4bit))
    assert not hold_values(nf4, 2 * needed - 1)
    assert len([module for module in nf4.modules() if isinstance(module, Linear4bit)]) == 4 * 7
    assert hold_values(nf4, 2 * needed)


def test_a_bias_stays() -> None:
    model = torch.nn.Sequential(Linear4bit(64, 32, bias=True, compute_dtype=torch.float32, quant_type="nf4").to("cpu"))
    inputs = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    before = model(inputs)
    assert hold_values(model, 1e9)
    torch.testing.assert_close(model(inputs), before)
