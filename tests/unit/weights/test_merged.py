"""Base and adapter as one source: merged when read, and how each tensor comes to be."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from slipway.errors import AdapterError, CheckpointError
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.shards import Shards, TensorInfo
from tests.oracles.exact_merge import assert_nearly_fp32, exact_merge
from tests.support.pico import HIDDEN, pico_adapter, pico_model

Q0 = "model.layers.0.self_attn.q_proj.weight"
PAIR = "base_model.model.model.layers.0.self_attn.q_proj"


def merged(base, adapter):
    return MergedSource(Shards.open(base), LoraAdapter(adapter))


def merged_by_peft(base, adapter):
    """PEFT's merge of the fp32-upcast base, then one rounding."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter).merge_and_unload().to(torch.bfloat16).state_dict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_base_of_another_dtype_is_rounded_once(tmp_path, dtype):
    base, adapter = pico_model(tmp_path / "base", dtype=dtype), pico_adapter(tmp_path / "adapter")
    source, want = merged(base, adapter), merged_by_peft(base, adapter)
    for name in source.names():
        assert source.info(name).dtype == torch.bfloat16
        assert_nearly_fp32(source.read(name), want[name], name)


def test_untouched_tensors_keep_their_bits(tmp_path):
    base, adapter = pico_model(tmp_path / "base"), pico_adapter(tmp_path / "adapter", layers=[3])
    source, plain = merged(base, adapter), load_file(base / "model.safetensors")
    for name in set(source.names()) - set(source.updates):
        assert torch.equal(source.read(name), plain[name])


def test_the_merge_is_the_definition_in_whole_numbers(tmp_path):
    base = pico_model(tmp_path / "base", layers=1)
    adapter = pico_adapter(tmp_path / "adapter", layers=[0], targets=["k_proj"], rank=3, alpha=5)
    source, pair = merged(base, adapter), load_file(adapter / "adapter_model.safetensors")
    (name,) = source.updates
    a, b = (next(t for n, t in pair.items() if f"lora_{side}" in n) for side in "AB")
    assert torch.equal(source.read(name), exact_merge(load_file(base / "model.safetensors")[name], a, b, 5 / 3))


def test_names_metadata_and_shapes_are_the_bases(tmp_path):
    base = pico_model(tmp_path / "base", dtype=torch.float32, layers=1)
    source, plain = merged(base, pico_adapter(tmp_path / "adapter", layers=[0])), Shards.open(base)
    assert source.names() == plain.names() and source.metadata == plain.metadata == {"format": "pt"}
    assert source.info(Q0) == TensorInfo(torch.bfloat16, (HIDDEN, HIDDEN)) != plain.info(Q0)


def test_a_recipe_holds_the_stored_tensor_and_each_product_in_order(tmp_path):
    base = pico_model(tmp_path / "base", layers=1)
    first = pico_adapter(tmp_path / "first", layers=[0], targets=["q_proj"], rank=2, alpha=8)
    second = pico_adapter(tmp_path / "second", layers=[0], targets=["q_proj"], rank=5, alpha=5, seed=2)
    once = merged(base, first)
    twice = MergedSource(once, LoraAdapter(second))
    recipe = twice.recipe(Q0)
    assert (recipe.name, recipe.info) == (Q0, TensorInfo(torch.bfloat16, (HIDDEN, HIDDEN)))
    assert [(update.scaling, len(update.a)) for update in recipe.updates] == [(4, 2), (1, 5)]
    stored = load_file(second / "adapter_model.safetensors")
    assert torch.equal(recipe.updates[1].a, stored[f"{PAIR}.lora_A.weight"])
    assert torch.equal(recipe.updates[1].b, stored[f"{PAIR}.lora_B.weight"])
    assert len(once.recipe(Q0).updates) == 1 and twice.recipe("model.norm.weight").updates == ()
    product = recipe.updates[1]
    below = exact_merge(Shards.open(base).read(Q0), recipe.updates[0].a, recipe.updates[0].b, 4.0)
    assert torch.equal(once.read(Q0), below)  # rounded to bf16 after each product
    assert torch.equal(twice.read(Q0), exact_merge(below, product.a, product.b, 1.0))


def test_a_saved_module_replaces_the_tensor_and_is_its_recipe(tmp_path):
    base, head = pico_model(tmp_path / "base", tied=False, layers=1), "lm_head.weight"
    saved = torch.randn(Shards.open(base).info(head).shape, generator=torch.Generator().manual_seed(3))
    adapter = pico_adapter(
        tmp_path / "adapter",
        layers=[0],
        config={"modules_to_save": ["lm_head"]},
        extra={f"base_model.model.{head}": saved},
    )
    source = merged(base, adapter)
    recipe = source.recipe(head)
    assert (recipe.name, recipe.updates, recipe.info.dtype) == (f"base_model.model.{head}", (), torch.float32)
    assert torch.equal(recipe.stored.read(recipe.name), saved)
    assert torch.equal(source.read(head), saved.to(torch.bfloat16))


def test_integers_stay_as_they_are_stored(tmp_path):
    base, ids = pico_model(tmp_path / "base", layers=1), torch.arange(6).reshape(2, 3)
    file = base / "model.safetensors"
    save_file({**load_file(file), "model.ids": ids}, file, {"format": "pt"})
    source = merged(base, pico_adapter(tmp_path / "adapter", layers=[0]))
    assert source.info("model.ids") == TensorInfo(torch.int64, (2, 3)) and torch.equal(source.read("model.ids"), ids)


@pytest.mark.parametrize("dtype, value", [(torch.bfloat16, 3e38), (torch.float32, 3.3999e38)])
def test_what_no_bf16_holds_is_named(tmp_path, dtype, value):
    """A sum past the largest bf16, and an fp32 weight that rounds past it."""
    base = pico_model(tmp_path / "base", layers=1, dtype=dtype)
    file, name = base / "model.safetensors", Q0 if dtype == torch.bfloat16 else "model.norm.weight"
    tensors = load_file(file)
    tensors[name].fill_(value)
    save_file(tensors, file, {"format": "pt"})
    pair = {
        f"{PAIR}.lora_A.weight": torch.full((4, HIDDEN), 1e19),
        f"{PAIR}.lora_B.weight": torch.full((HIDDEN, 4), 1e19),
    }
    source = merged(base, pico_adapter(tmp_path / "adapter", layers=[0], extra=pair))
    with pytest.raises(CheckpointError, match=rf"merged tensor {name}: \d+ of \d+ values are NaN or Inf"):
        source.read(name)


def test_an_adapter_of_another_model_is_refused_when_they_are_joined(tmp_path):
    base = Shards.open(pico_model(tmp_path / "base", layers=1))
    with pytest.raises(AdapterError, match=r"lands on model\.layers\.3\..*, which the base does not have"):
        MergedSource(base, LoraAdapter(pico_adapter(tmp_path / "adapter", layers=[3])))
