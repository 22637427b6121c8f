"""Checkpoint tensors in the parameters of an empty model: where each goes and comes from, and back to nothing."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from slipway.calibration.module_weights import ModuleWeights, Origin
from slipway.errors import CheckpointError
from slipway.weights.shards import TensorInfo
from tests.support.pico_families import family

CPU = torch.device("cpu")
EXPERTS = "model.layers.1.block_sparse_moe.experts"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """Family -> directory, each made once."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = family(name, tmp_path_factory.mktemp(name))
        return made[name]

    return of


@pytest.fixture
def of(model_dir):
    """Family -> its empty model and its tensors."""

    def empty(name, dtype=torch.bfloat16):
        return ModuleWeights(model_dir(name), CPU, dtype), load_file(model_dir(name) / "model.safetensors")

    return empty


def infos(tensors):
    return {name: TensorInfo(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def is_empty(weights):
    return all(parameter.is_meta for parameter in weights.model.parameters())


def test_parameters_have_no_memory_and_buffers_are_transformers_own(of, model_dir):
    weights, _ = of("llama", torch.float32)
    ordinary = dict(AutoModelForCausalLM.from_pretrained(model_dir("llama"), dtype=torch.float32).named_buffers())
    buffers = dict(weights.model.named_buffers())
    assert is_empty(weights) and not weights.model.training and set(buffers) == set(ordinary) != set()
    assert all(torch.equal(buffers[name], ordinary[name]) for name in buffers)


@pytest.mark.parametrize("name", ["llama", "llama_tied", "mixtral", "gpt_oss", "gpt2"])
def test_a_loaded_model_is_the_ordinary_one_and_nothing_stays(of, model_dir, name):
    weights, tensors = of(name, torch.float32)
    state = AutoModelForCausalLM.from_pretrained(model_dir(name), dtype=torch.float32).state_dict()
    with weights.loaded(tensors, weights.paths()):
        actual = {path: tensor.clone() for path, tensor in weights.model.state_dict().items()}
    assert set(weights.paths()) == actual.keys() == state.keys()
    assert all(torch.equal(actual[path], state[path]) for path in state) and is_empty(weights)


def test_an_error_inside_empties_the_model_too(of):
    weights, tensors = of("llama")
    with pytest.raises(KeyError), weights.loaded(tensors, []):
        assert not is_empty(weights)
        raise KeyError
    assert is_empty(weights)


def test_tensors_of_the_right_dtype_are_not_copied(of):
    weights, tensors = of("llama")
    name = "model.layers.2.mlp.up_proj.weight"
    with weights.loaded({name: tensors[name]}, [name]):
        assert weights.model.get_parameter(name).data_ptr() == tensors[name].data_ptr()
        assert weights.model.model.layers[1].mlp.up_proj.weight.is_meta


@pytest.mark.parametrize(
    "name, tensor, path",
    [
        ("llama", "model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"),
        ("mixtral", f"{EXPERTS}.4.w1.weight", "model.layers.1.mlp.experts.gate_up_proj"),
        ("mixtral", f"{EXPERTS}.4.w2.weight", "model.layers.1.mlp.experts.down_proj"),
        ("gpt2", "transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.weight"),
        ("llama", "model.layers.7.mlp.up_proj.weight", None),
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq", None),
    ],
)
def test_where_a_tensor_goes(of, name, tensor, path):
    assert of(name)[0].target(tensor) == path


def test_a_slice_comes_from_the_tensors_of_its_expert(of):
    weights, tensors = of("mixtral")
    part = {name: tensor for name, tensor in tensors.items() if name.startswith("model.layers.1.")}
    origins = weights.origins(infos(part))
    assert origins["model.layers.1.mlp.experts.gate_up_proj"] == Origin(
        tuple((f"{EXPERTS}.{e}.w1.weight", f"{EXPERTS}.{e}.w3.weight") for e in range(6)), stacked=False
    )
    assert origins["model.layers.1.mlp.experts.down_proj"].slices[5] == (f"{EXPERTS}.5.w2.weight",)
    query = "model.layers.1.self_attn.q_proj.weight"
    assert origins[query] == Origin(((query,),), stacked=False) and is_empty(weights)


def test_a_stack_of_the_checkpoint_is_the_origin_of_each_slice(of):
    weights, tensors = of("gpt_oss")
    name = "model.layers.0.mlp.experts.gate_up_proj"
    origins = weights.origins(infos({name: tensors[name]}))
    assert origins == {name: Origin(((name,),) * 6, stacked=True)}


def test_a_tied_head_belongs_to_the_embedding(of):
    weights, _ = of("llama_tied")
    tied = {"model.embed_tokens.weight", "lm_head.weight"}
    assert weights.parameters(weights.model.model.embed_tokens) == tied
    assert of("llama")[0].parameters(weights.model.lm_head) == set()  # of another model
    assert weights.parameters(None) == set()
    norm = weights.model.model.layers[0].input_layernorm
    assert weights.parameters(norm) == {"model.layers.0.input_layernorm.weight"}


def test_what_has_no_place_or_no_value_is_refused_by_name(of):
    weights, tensors = of("llama")
    name = "model.layers.0.mlp.up_proj.weight"
    with (
        pytest.raises(CheckpointError, match=rf"parameter {name}: no tensor of the checkpoint gives its value"),
        weights.loaded({}, [name]),
    ):
        pass
    with (
        pytest.raises(CheckpointError, match=rf"weights of the model: .*{name}.*config\.json and the weights belong"),
        weights.loaded({name: torch.ones(3, 3)}, [name]),
    ):
        pass
    other = "model.layers.9.mlp.up_proj.weight"
    with pytest.raises(CheckpointError, match=rf"{other}"):
        weights.origins(infos({name: tensors[name], other: tensors[name]}))
    assert is_empty(weights)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"quantization_config of .*gptq.*expected none"),
        ({"model_type": "nonesuch"}, r"model .*nonesuch.*expected a causal language model"),
    ],
    ids=["quantized", "unknown"],
)
def test_quantized_and_unknown_models_are_refused(model_dir, tmp_path, change, message):
    shutil.copytree(model_dir("llama"), tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=message):
        ModuleWeights(tmp_path / "model", CPU, torch.bfloat16)


def test_a_directory_without_a_config_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=f"model {tmp_path}.*expected a causal language model"):
        ModuleWeights(tmp_path, CPU, torch.bfloat16)


def test_building_and_tracing_draw_no_random_numbers(of):
    before = torch.random.get_rng_state()
    weights, tensors = of("mixtral")
    weights.origins(infos(tensors))
    assert torch.equal(before, torch.random.get_rng_state())
