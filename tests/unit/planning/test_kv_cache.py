"""What attention keeps, held against the caches that transformers itself makes of every model type in the table."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from slipway.errors import CheckpointError
from slipway.planning.kv_cache import KNOWN, UnknownCacheError, cache_of, request_values, size_of, token_values
from tests.support.families import FAMILIES, family_config, random_model, tokens

TOKENS, WINDOW = 24, 8
SIZES = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
EXPERTS = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "shared_expert_intermediate_size": 32,
}
LATENT = {
    **EXPERTS,
    "num_key_value_heads": 4,
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim"), 32),
    "qk_rope_head_dim": 16,
    "head_dim": 16,
    "first_k_dense_replace": 1,
}
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 32,
}
SLIDING = {"sliding_window": WINDOW}
NARROW = {"head_dim": 16}  # classes that take hidden / heads, whatever the key says
ROTARY = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
OWN = {
    "gpt2": {"n_embd": 64, "n_layer": 4, "n_head": 4},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 64},
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "dots1": {"first_k_dense_replace": 1},
    "lfm2": {**NARROW, "layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "lfm2_moe": {**NARROW, "layer_types": ["conv", "full_attention", "conv", "conv"], "num_dense_layers": 1},
    "qwen3_next": DELTA,
    **dict.fromkeys(("gemma2", "gemma3_text", "gpt_oss", "cohere2", "exaone4", "olmo3"), SLIDING),
    **dict.fromkeys(("mistral", "mixtral", "phi3", "starcoder2"), SLIDING),
    **{key: {**SLIDING, "use_sliding_window": True, "max_window_layers": 1} for key in ("qwen2", "qwen3")},
    "llama4_text": {"attention_chunk_size": WINDOW, "intermediate_size_mlp": 32},
    **dict.fromkeys(("gpt_neox", "helium", "olmoe", "stablelm", "phimoe", "ernie4_5_moe", "granitemoe"), NARROW),
    **{key: {**NARROW, "rope_parameters": ROTARY} for key in ("qwen2_5_vl_text", "qwen2_vl_text")},
}
MIXTURES = ("moe", "mixtral", "gpt_oss", "llama4", "dots1", "qwen3_next")
OF_ANOTHER_CLASS = {"qwen2_5_vl"}  # the whole model's type, which old files have in place of the text model's


def keys_of(kind):
    experts = EXPERTS if any(part in kind for part in MIXTURES) else {}
    alone = ("gpt_neox", "gpt2", "opt")
    sizes = {k: v for k, v in SIZES.items() if kind not in alone or k not in ("num_key_value_heads", "head_dim")}
    return {**sizes, **experts, **{k: v for k, v in OWN.get(kind, {}).items() if kind not in alone or k != "head_dim"}}


def held(cache):
    """(values of tokens, values of states) of a cache of transformers, by the shapes of its tensors."""
    tokens_held = states = 0
    for layer in cache.layers:
        for name, value in vars(layer).items():
            parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
            for one in parts:
                if isinstance(one, torch.Tensor) and one.ndim > 1:
                    tokens_held += one.numel() * (name in ("keys", "values"))
                    states += one.numel() * (name not in ("keys", "values"))
    return tokens_held, states


def expected(caches, length):
    """As `request_values`, but that transformers drops the oldest token of a full window when a step ends."""
    whole, states = request_values(caches, length)
    return whole - sum(one.values() for one in caches if one.window and one.window <= length), states


@pytest.mark.parametrize("kind", sorted(KNOWN - OF_ANOTHER_CLASS))
def test_a_known_model_keeps_what_transformers_keeps(kind):
    config = AutoConfig.for_model(kind, **keys_of(kind))
    model = AutoModel.from_config(config).eval()
    with torch.no_grad():
        cache = model(input_ids=torch.randint(8, 60, (1, TOKENS)), use_cache=True).past_key_values
    assert held(cache) == expected(cache_of(config.to_dict()), TOKENS)


@pytest.mark.parametrize("kind", sorted(KNOWN - OF_ANOTHER_CLASS - {"lfm2", "lfm2_moe"}))
def test_a_config_without_layer_types_has_its_classes_default(kind):
    keys = {**keys_of(kind), "model_type": kind}
    assert cache_of(keys) == cache_of(AutoConfig.for_model(**keys).to_dict())


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_families_that_people_bring_are_known(name):
    model = random_model(name)
    with torch.no_grad():
        cache = model(input_ids=tokens(1, 12), use_cache=True).past_key_values
    document = family_config(name).to_dict()
    assert held(cache) == expected(cache_of({**document, **document.get("text_config", {})}), 12)


@pytest.mark.parametrize(
    ("config", "values"),
    [
        ({"model_type": "llama", "num_hidden_layers": 80, "head_dim": 128, "num_key_value_heads": 8}, 163_840),
        ({"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768}, 2 * 12 * 768),
        ({"model_type": "deepseek_v3", "num_hidden_layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, 61 * 576),
        ({"model_type": "llama", "num_hidden_layers": 2, "num_key_value_heads": None, "hidden_size": 64}, 256),
    ],
)
def test_values_of_published_models(config, values):
    """Llama 3 70B: 163,840 values, which llama.cpp prints as 320 KiB a token in fp16."""
    assert token_values(cache_of({"num_attention_heads": 4, **config})) == values


def test_heads_are_shared_out_and_never_cut_and_a_latent_is_whole_on_every_gpu():
    llama = cache_of({"model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 8, "hidden_size": 64})
    assert [token_values(llama, gpus) for gpus in (1, 2, 8, 16)] == [128, 64, 16, 16]
    latent = cache_of(
        {"model_type": "deepseek_v3", "num_hidden_layers": 1, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    )
    assert token_values(latent, 8) == 576


def test_a_window_may_be_left_unused():
    caches = cache_of({**SIZES, "model_type": "gemma2", "sliding_window": WINDOW})
    assert request_values(caches, 4)[0] == request_values(caches, 4, windowed=False)[0]
    assert request_values(caches, 24, windowed=False)[0] == 24 * token_values(caches)
    assert request_values(caches, 24)[0] == (24 + WINDOW) / 2 * token_values(caches)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": "gemma3n_text"}, "cannot tell: model_type 'gemma3n_text'"),
        ({"model_type": None}, "cannot tell"),
        ({"layer_types": ["full_attention"]}, "1 names for 4 layers"),
        ({"layer_types": ["full_attention"] * 3 + ["mamba"]}, "layer type 'mamba'"),
        ({"layer_types": [{}] * 4}, "layer_types"),
        ({"model_type": "lfm2"}, "lfm2 without layer_types"),
        ({"model_type": "qwen3_moe", "sliding_window": 8, "use_sliding_window": True}, "no layer_types"),
    ],
)
def test_what_is_not_known_has_no_figure(change, match):
    with pytest.raises(UnknownCacheError, match=match):
        cache_of({**SIZES, "model_type": "llama", **change})


@pytest.mark.parametrize("value", [None, -3, 0, "4", True, 2.0])
def test_a_size_is_a_whole_number_above_zero(value):
    with pytest.raises(CheckpointError, match="no num_hidden_layers"):
        cache_of({**SIZES, "model_type": "llama", "num_hidden_layers": value})
    assert size_of({"a": value, "b": 3}, "a", "b") == 3
