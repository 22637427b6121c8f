"""NVFP4 checkpoints of classes that llama.cpp would compute wrongly are refused by name, all others pass."""

import pytest

from slipway.engines.llamacpp.nvfp4_support import COMPUTED, require_nvfp4_class, require_nvfp4_support
from slipway.errors import EngineError

PLAIN = ["model.layers.0.mlp.up_proj.weight", "model.norm.weight"]
SCALARS = ["model.layers.0.mlp.up_proj.weight_scale_2", "model.layers.0.mlp.up_proj.weight_global_scale"]


@pytest.mark.parametrize("scalar", SCALARS)
def test_a_class_whose_scalars_are_left_out_is_refused_with_the_ways_out(scalar):
    with pytest.raises(EngineError, match=r"Qwen2ForCausalLM in NVFP4.*left out.*fp8-dynamic.*engine.kind"):
        require_nvfp4_support({"architectures": ["Qwen2ForCausalLM"]}, [*PLAIN, scalar])
    with pytest.raises(EngineError, match="qwen2 in NVFP4"):
        require_nvfp4_support({"model_type": "qwen2"}, [scalar])


@pytest.mark.parametrize("name", sorted(COMPUTED))
def test_classes_that_are_computed_pass(name):
    require_nvfp4_support({"architectures": [name]}, [*PLAIN, *SCALARS])


def test_other_formats_pass_whatever_the_class():
    fp8 = ["model.layers.0.mlp.up_proj.weight_scale", "model.layers.0.mlp.up_proj.input_scale"]
    require_nvfp4_support({"architectures": ["Qwen2ForCausalLM"]}, [*PLAIN, *fp8])


@pytest.mark.parametrize("config", [{}, {"architectures": []}, {"architectures": None}, {"architectures": "x" * 9999}])
def test_a_config_without_a_class_is_refused_in_a_message_of_bounded_size(config):
    with pytest.raises(EngineError) as caught:
        require_nvfp4_support(config, SCALARS)
    assert len(str(caught.value)) < 1000


def test_a_class_is_refused_before_it_is_quantized():
    require_nvfp4_class({"architectures": ["LlamaForCausalLM"]})
    with pytest.raises(EngineError, match="Gemma2ForCausalLM in NVFP4"):
        require_nvfp4_class({"architectures": ["Gemma2ForCausalLM"]})
