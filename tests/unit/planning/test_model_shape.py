"""A model's shape in the config against its directory's config.json."""

import json

import pytest

from slipway.config.model import ModelConfig
from slipway.errors import ConfigError
from slipway.planning.model_shape import check_shape
from tests.support.shapes import LLAMA_8B, MIXTURE

LLAMA = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
QWEN = {
    "num_hidden_layers": 48,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "num_experts": 128,
    "num_experts_per_tok": 8,
}


def directory(root, config):
    (root / "config.json").write_text(json.dumps(config))
    return root


@pytest.mark.parametrize(("model", "config"), [(LLAMA_8B, LLAMA), (MIXTURE, QWEN)], ids=["dense", "mixture"])
def test_the_shipped_rows_describe_their_models(tmp_path, model, config):
    check_shape(model, directory(tmp_path, config))


@pytest.mark.parametrize(
    ("key", "name"),
    [("layers", "num_hidden_layers"), ("intermediate", "intermediate_size"), ("vocabulary", "vocab_size")],
)
def test_another_model_is_named_with_both_values(tmp_path, key, name):
    with pytest.raises(
        ConfigError, match=rf"model.{key}: {getattr(LLAMA_8B, key)}; expected 7, as .*config.json has it"
    ):
        check_shape(LLAMA_8B, directory(tmp_path, LLAMA | {name: 7}))


def test_what_is_not_there_is_not_compared(tmp_path):
    check_shape(ModelConfig(), tmp_path)
    check_shape(LLAMA_8B, directory(tmp_path, {"hidden_size": 4096}))
