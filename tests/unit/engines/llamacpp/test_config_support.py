"""What llama.cpp leaves out of a config.json is refused where a request would notice; what published models have
passes."""

import pytest

from slipway.engines.llamacpp.config_support import require_config_support, unread_notes
from slipway.errors import EngineError

SLIDING, FULL = "sliding_attention", "full_attention"
MISTRAL = {"model_type": "mistral", "sliding_window": 4096}
GEMMA3 = {"model_type": "gemma3_text", "sliding_window": 512}


@pytest.mark.parametrize(
    ("config", "context", "message"),
    [
        (MISTRAL, 8192, r"sliding_window=4096: is not read: every layer attends to all 8192"),
        ({**MISTRAL, "model_type": "phi3"}, 4097, "sliding_window=4096"),
        ({"model_type": "qwen3", "use_sliding_window": True, "sliding_window": 64}, 65, "sliding_window=64"),
        ({"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 4, "head_dim": 32}, 9, r"head_dim=32.*= 16"),
        ({"model_type": "qwen3_moe"}, 9, "norm_topk_prob=False: is not read: True"),
        ({"model_type": "deepseek_v3"}, 9, "scoring_func=None"),
        ({**GEMMA3, "layer_types": [SLIDING, FULL]}, 1024, r"layer_types\[1\]=full_attention"),
        ({"model_type": "gemma3", "text_config": {**GEMMA3, "layer_types": [FULL]}}, 1024, r"layer_types\[0\]"),
    ],
)
def test_what_is_left_out_is_refused_by_key_and_value(config, context, message):
    with pytest.raises(EngineError, match=message):
        require_config_support(config, context)


@pytest.mark.parametrize(
    ("config", "context"),
    [
        (MISTRAL, 4096),  # no request is longer than the window
        ({"model_type": "mistral", "sliding_window": None}, 1 << 20),
        ({"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 64}, 4096),
        ({"model_type": "qwen3_moe", "norm_topk_prob": True}, 9),
        ({"model_type": "deepseek_v3", "scoring_func": "sigmoid"}, 9),
        ({**GEMMA3, "layer_types": [SLIDING] * 5 + [FULL] + [SLIDING] * 2}, 1 << 20),
        ({"model_type": "gemma2", "sliding_window": 8, "layer_types": [SLIDING, FULL] * 2}, 1 << 20),
        ({**GEMMA3, "layer_types": [FULL]}, 512),
        ({"model_type": "llama", "sliding_window": 3}, 9),  # transformers' Llama has none either
        ({}, 9),
        ({"model_type": "mistral", "sliding_window": "wide", "text_config": 3}, 9),
    ],
)
def test_what_makes_no_difference_passes(config, context):
    require_config_support(config, context)


def test_a_small_difference_is_a_note():
    yarn = {"rope_type": "yarn", "truncate": False}
    assert "truncate=false" in unread_notes({"model_type": "gpt_oss", "rope_parameters": yarn})[0]
    assert unread_notes({"model_type": "gpt_oss", "rope_parameters": {**yarn, "truncate": True}}) == []
    assert unread_notes({"model_type": "llama", "rope_scaling": None}) == []
