"""Tokens near a router's tie do not fail a right merge, whatever their experts do; a wrong merge fails with any."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from slipway.errors import CheckpointError
from slipway.weights.lora import LoraAdapter
from slipway.weights.merge_proof import prove_logits, require_equal_logits
from slipway.weights.merged import MergedSource
from slipway.weights.routing import Routing
from slipway.weights.shards import Shards
from tests.support.pico_families import family

TOKENS = 24
ROUTER = "model.layers.{}.mlp.gate.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of four very different experts, of which three have equal scores: every token is at a tie."""
    model = family("qwen3_moe", tmp_path_factory.mktemp("base") / "model")
    file = model / "model.safetensors"
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if name.endswith("mlp.gate.weight"):
            tensor[2:] = tensor[1]  # three of four are one in their router's eyes, and two are taken
    save_file(tensors, file, metadata={"format": "pt"})
    return model


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA on attention."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj"]))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.05)
    out = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(out)
    return out


class Moved(MergedSource):
    """The merge, with tensors whose name ends in `ending` changed by `change`."""

    ending, change = "", staticmethod(lambda weight: weight)

    def read(self, name: str) -> torch.Tensor:
        weight = super().read(name)
        if self.ending and name.endswith(self.ending):
            weight = self.change(weight.clone())
        return weight


def figures(base: Path, adapter: Path, ending: str, change: object) -> dict[str, float]:
    source = Moved(Shards.open(base), LoraAdapter(adapter))
    source.ending, source.change = ending, change  # type: ignore[assignment]
    return prove_logits(base, adapter, source, TOKENS)


def by_a_step(weight: torch.Tensor) -> torch.Tensor:
    """A router with its last row a bf16 step larger: ties fall otherwise."""
    weight[3] *= 1 + 2**-7
    return weight


def test_tokens_at_a_tie_do_not_fail_a_right_merge(base: Path, adapter: Path) -> None:
    one = figures(base, adapter, "mlp.gate.weight", by_a_step)
    assert one["rerouted_tokens"] > TOKENS / 3
    assert one["routed_mean_abs"] < 0.02 < 0.05 < one["rerouted_mean_abs"]
    limit = (one["routed_mean_abs"] * one["mean_abs"]) ** 0.5
    assert one["mean_abs"] > limit, "the mean over all tokens fails it"
    require_equal_logits(one, limit)


@pytest.mark.parametrize("ending", ["v_proj.weight", "o_proj.weight", "experts.0.down_proj.weight"])
def test_a_wrong_merge_fails_with_equal_experts(base: Path, adapter: Path, ending: str) -> None:
    right = figures(base, adapter, "", None)
    wrong = figures(base, adapter, ending, lambda weight: weight * 2)
    assert wrong["routed_mean_abs"] > 5 * right["routed_mean_abs"]
    with pytest.raises(CheckpointError, match=r"logit difference to base .* with the experts that these choose"):
        require_equal_logits(wrong, 3 * right["routed_mean_abs"])


def test_a_wrong_router_fails_by_its_scores(base: Path, adapter: Path) -> None:
    """Its choices are replaced, so that of the logits only the experts' shares tell."""
    wrong = figures(base, adapter, "layers.1.mlp.gate.weight", lambda weight: weight.roll(2, 0))
    with pytest.raises(CheckpointError, match=r"scores of a router: \d\.\d+ of their spread away"):
        require_equal_logits(wrong, 100)


def test_a_model_without_routers_has_no_figures_of_them() -> None:
    with Routing(4) as routing:
        torch.randn(2, 8).topk(2)  # not one choice for each token
    assert not routing.choices
    assert require_equal_logits({"mean_abs": 0.1}, 0.2) is None
    with pytest.raises(CheckpointError, match="logit difference to base"):
        require_equal_logits({"mean_abs": float("nan")}, 0.2)
