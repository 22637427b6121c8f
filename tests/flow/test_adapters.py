"""Adapters that PEFT makes and saves, on tiny models of every family, merged to PEFT's result.

Oracle: PEFT in fp32. Where its `merge_and_unload` is what the adapted model computes, every tensor of the merge, loaded
by transformers, is within one bf16 step of it; elsewhere (pairs on tied weights, which PEFT adds to both) the logits
are those of the adapted model.
"""

from __future__ import annotations

import warnings

import pytest
import torch

from slipway.errors import AdapterError
from slipway.streaming.directories import merge_directory
from slipway.system.progress import Progress
from slipway.weights.merge_proof import bf16_steps
from tests.support.families import FAMILIES, load_family, logits, write_family
from tests.support.peft_adapters import adapted, edit_config, every_linear, write_adapter
from tests.support.streaming import config as quick

ATTENTION = ["q_proj", "v_proj"]
EXPERTS = {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
ON = {"target_modules": ATTENTION}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    made = {}

    def base(name):
        if name not in made:
            made[name] = write_family(name, tmp_path_factory.mktemp(name))
        return made[name]

    return base


def merged(base, adapter, out):
    """Figures of a merge on the CPU."""
    return merge_directory(base, adapter, out, quick(), Progress())


CASES = {
    **{name: (name, {"target_modules": None}) for name in FAMILIES},  # None: every Linear of the family
    **{
        f"{name}, stacked experts": (name, {"target_modules": ["q_proj"], **EXPERTS})
        for name in ("qwen3_moe", "glm4_moe", "mixtral", "lfm2_moe", "granitemoe", "gpt_oss")
    },
    "one stacked parameter": ("gpt_oss", {"target_modules": [], "target_parameters": ["experts.down_proj"]}),
    "fan_in_fan_out": ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
    "DoRA": ("llama", {**ON, "use_dora": True}),
    "DoRA on Conv1D": ("gpt2", {"target_modules": ["c_attn"], "use_dora": True}),
    "DoRA on an embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True}),
    "DoRA on the head": ("llama", {"target_modules": ["lm_head", "q_proj"], "use_dora": True}),
    "bias=all": ("qwen2", {**ON, "bias": "all"}),
    "bias=lora_only": ("qwen2", {**ON, "bias": "lora_only"}),
    "bias=all of Conv1D": ("gpt2", {"target_modules": ["c_attn"], "bias": "all"}),
    "lora_bias": ("qwen2", {**ON, "lora_bias": True}),
    "rslora and patterns": (
        "llama",
        {**ON, "use_rslora": True, "rank_pattern": {r"layers\.1.*q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    ),
    "a regular expression": ("gemma3", {"target_modules": r".*language_model.*\.[qk]_proj"}),
    "layers": ("llama", {**ON, "layers_to_transform": [1]}),
    "all-linear": ("llama", {"target_modules": "all-linear"}),
    "norms in modules_to_save": ("llama", {**ON, "modules_to_save": ["norm", "input_layernorm"]}),
    "experts saved whole": ("qwen3_moe", {**ON, "modules_to_save": ["mlp.experts"]}),
    "blocks of experts saved whole": ("granitemoe", {**ON, "modules_to_save": ["block_sparse_moe"]}),
    "experts of gpt-oss saved whole": ("gpt_oss", {**ON, "modules_to_save": ["experts"]}),
    "tokens": ("llama_tied", {**ON, "trainable_token_indices": [3, 7, 370]}),
    "tokens of both": ("llama", {**ON, "trainable_token_indices": {"embed_tokens": [3], "lm_head": [2, 5]}}),
    "tied, embedding saved": ("llama_tied", {**ON, "modules_to_save": ["embed_tokens"]}),
    "tied, head saved": ("llama_tied", {**ON, "modules_to_save": ["lm_head"]}),
    "tied, both saved": ("llama_tied", {**ON, "modules_to_save": ["embed_tokens", "lm_head"]}),
    "tied, both saved as one": (
        "llama_tied",
        {**ON, "modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
    ),
    "a pair on the head": ("llama", {"target_modules": ["lm_head", "q_proj"]}),
    "a pair on the embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "mica": ("llama", {**ON, "init_lora_weights": "mica"}),
}


@pytest.mark.parametrize("name, config", CASES.values(), ids=CASES.keys())
def test_the_merge_is_pefts_merge(tmp_path, bases, name, config):
    base, adapter = bases(name), tmp_path / "adapter"
    targets = every_linear(name) if config["target_modules"] is None else config["target_modules"]
    peft = write_adapter(name, base, adapter, **{**config, "target_modules": targets})
    merged(base, adapter, tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.merge_and_unload().to(torch.bfloat16).state_dict()
    ours, before = (load_family(name, at, torch.bfloat16).state_dict() for at in (tmp_path / "out", base))
    assert ours.keys() == theirs.keys()
    for key, stored in ours.items():
        tensor = stored.to(torch.bfloat16)  # a class may keep some in fp32
        near = (bf16_steps(tensor, theirs[key]) <= 1) | ((tensor.float() - theirs[key].float()).abs() <= 2.0**-20)
        assert near.all(), key
        assert (tensor != theirs[key]).float().mean() <= 2e-3 or (tensor != theirs[key]).sum() <= 8, key
    assert any(not torch.equal(ours[key], before[key]) for key in ours)


TIED = {
    "a pair on the head": ("llama_tied", {"target_modules": ["lm_head"]}),
    "a pair on the embedding": ("llama_tied", {"target_modules": ["embed_tokens", "q_proj"]}),
    "pairs on both": ("llama_tied", {"target_modules": ["embed_tokens", "lm_head"]}),
    "pairs on both as one": (
        "llama_tied",
        {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
    ),
    "DoRA on both, tied": ("llama_tied", {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True}),
    "a head that is a Linear over Conv1D": ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),
    "a larger vocabulary": ("llama", {**ON, "resized": 400}),
    "a larger vocabulary, tied": ("llama_tied", {**ON, "resized": 400}),
}


@pytest.mark.parametrize("name, config", TIED.values(), ids=TIED.keys())
def test_the_merge_computes_what_base_and_adapter_compute(tmp_path, bases, name, config):
    base, adapter = bases(name), tmp_path / "adapter"
    want = logits(write_adapter(name, base, adapter, **config))
    merged(base, adapter, tmp_path / "out")
    got, without = logits(load_family(name, tmp_path / "out")), logits(load_family(name, base))
    rows = without.shape[-1]
    assert got.shape == want.shape and (got - want).abs().max() < 0.1 < (without - want[..., :rows]).abs().max()


def test_a_pickled_adapter_in_the_trainers_names_is_the_same_adapter(tmp_path, bases):
    """axolotl and FSDP scripts keep the adapter's name and the wrappers' in the file."""
    from safetensors.torch import load_file

    base, adapter = bases("llama"), tmp_path / "adapter"
    write_adapter("llama", base, adapter, **ON)
    merged(base, adapter, tmp_path / "one")
    file = adapter / "adapter_model.safetensors"
    renamed = {
        f"_orig_mod.{n.replace('_A.', '_A.default.').replace('_B.', '_B.default.')}": t
        for n, t in load_file(file).items()
    }
    file.unlink()
    torch.save(renamed, adapter / "adapter_model.bin")
    merged(base, adapter, tmp_path / "two")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("kind", ["LoHaConfig", "LoKrConfig", "IA3Config", "VeraConfig", "OFTConfig", "AdaLoraConfig"])
def test_other_kinds_of_adapter_are_refused_by_name(tmp_path, bases, kind):
    import peft

    keys = {"feedforward_modules": []} if kind == "IA3Config" else {"total_step": 9} if kind == "AdaLoraConfig" else {}
    model = load_family("llama", bases("llama"))
    peft.get_peft_model(model, getattr(peft, kind)(target_modules=ATTENTION, **keys)).save_pretrained(tmp_path / "a")
    with pytest.raises(AdapterError, match=r"peft_type of .*; expected LORA.*merge it with PEFT itself"):
        merged(bases("llama"), tmp_path / "a", tmp_path / "out")


def test_an_untrained_adapter_and_one_of_another_family_are_refused(tmp_path, bases):
    import peft

    fresh = peft.get_peft_model(load_family("llama", bases("llama")), peft.LoraConfig(target_modules=ATTENTION))
    fresh.save_pretrained(tmp_path / "fresh")
    with pytest.raises(AdapterError, match=r"changes nothing: 4 tensors"):
        merged(bases("llama"), tmp_path / "fresh", tmp_path / "out")
    write_adapter("phi3", bases("phi3"), tmp_path / "phi3", target_modules=["qkv_proj"])
    with pytest.raises(AdapterError, match=r"qkv_proj\.lora_A\.weight: lands on model\.layers\.0\.self_attn\.qkv_proj"):
        merged(bases("llama"), tmp_path / "phi3", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pissa_that_peft_converted_is_merged_and_one_that_it_did_not_is_refused(tmp_path, bases):
    import peft

    base, adapter = bases("llama"), tmp_path / "adapter"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_family("llama", base)
        trained = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=ATTENTION, init_lora_weights="pissa"))
        trained.peft_config["default"].init_lora_weights = True
        trained.save_pretrained(tmp_path / "initial")
        trained.peft_config["default"].init_lora_weights = "pissa"
        from tests.support.peft_adapters import draw

        draw(trained)
        want = logits(trained.eval())
        trained.save_pretrained(tmp_path / "as-it-is")
        trained.save_pretrained(adapter, path_initial_model_for_weight_conversion=str(tmp_path / "initial"))
    merged(base, adapter, tmp_path / "out")
    assert (logits(load_family("llama", tmp_path / "out")) - want).abs().max() < 0.1
    with pytest.raises(AdapterError, match=r"init_lora_weights of .*: pissa; expected"):
        merged(base, tmp_path / "as-it-is", tmp_path / "refused")


def test_the_config_is_peft_s_to_read_and_an_edited_one_is_refused(tmp_path, bases):
    base, adapter = bases("llama"), tmp_path / "adapter"
    write_adapter("llama", base, adapter, **ON)
    assert adapted("llama", base, adapter).peft_config["default"].r == 4
    edit_config(adapter, target_modules=["q_proj", "v_proj", "k_proj"])
    with pytest.raises(
        AdapterError, match=r"2 of what target_modules in .* names: model\.layers\.0\.self_attn\.k_proj"
    ):
        merged(base, adapter, tmp_path / "out")
