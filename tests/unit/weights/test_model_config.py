"""config.json as it may be, and as it may not."""

import json
import math

import pytest

from slipway.errors import CheckpointError
from slipway.weights.model_config import in_bf16, read_config, with_floats


@pytest.mark.parametrize(
    "text, message",
    [
        ("null", "NoneType; expected a mapping"),
        ("[" * 100_000, "expected a readable file of JSON"),
        ('{"a": ', "expected a readable file of JSON"),
        ('{"hidden_size": "64"}', r"hidden_size of config .*: '64'; expected a whole number"),
        ('{"hidden_size": -1}', "hidden_size .*expected a count"),
        ('{"num_hidden_layers": true}', "num_hidden_layers .*True; expected a whole number"),
        ('{"tie_word_embeddings": "yes"}', "tie_word_embeddings .*expected true or false"),
        ('{"architectures": "LlamaForCausalLM"}', "architectures .*expected a list of names"),
        ('{"text_config": []}', r"text_config .*\[\]; expected a mapping"),
        ('{"text_config": {"vocab_size": 1.5}}', r"text_config\.vocab_size .*1\.5; expected a whole number"),
        ('{"quantization_config": "awq"}', "quantization_config .*'awq'; expected a mapping"),
        ('{"model_type": 3}', "model_type .*3; expected a name"),
    ],
)
def test_a_damaged_config_is_one_error_that_names_the_key(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message) as damaged:
        read_config(tmp_path)
    assert len(str(damaged.value)) < 600


def test_a_missing_config_is_named_and_nulls_are_as_if_absent(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": None, "hidden_size": None}))
    assert read_config(tmp_path) == {"quantization_config": None, "hidden_size": None}


def test_every_dtype_that_a_config_states_becomes_bf16():
    config = {"torch_dtype": "float16", "text_config": {"torch_dtype": "float32", "a": 1}, "vision_config": {"b": 2}}
    assert in_bf16(config) == {
        "dtype": "bfloat16",
        "text_config": {"a": 1, "dtype": "bfloat16"},
        "vision_config": {"b": 2},
    }


def test_floats_that_json_lacks_are_read_as_transformers_writes_them_and_nothing_else_changes():
    tagged = {"time_step_limit": [0.0, {"__float__": "Infinity"}], "text_config": {"x": {"__float__": "-Infinity"}}}
    assert with_floats(tagged) == {"time_step_limit": [0.0, math.inf], "text_config": {"x": -math.inf}}
    assert math.isnan(with_floats({"__float__": "NaN"}))
    for other in ({"__float__": "1"}, {"__float__": 3}, {"__float__": ["Infinity"]}, {"__float__": "NaN", "a": 1}):
        assert with_floats(other) == other
