"""Layer by layer equals the ordinary model, bit for bit, and every matmul's input is seen under its checkpoint name."""

import json
from collections import defaultdict

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, DynamicCache

from slipway.calibration.layer_walk import LayerWalk
from slipway.errors import CheckpointError
from slipway.weights.shards import Shards
from tests.support.pico_families import FAMILIES, VOCABULARY, family

TOKENS = torch.randint(3, VOCABULARY, (5, 24), generator=torch.Generator().manual_seed(1))
ROWS = 2  # in a micro-batch: the last one is smaller
MOE = ["mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "llama4_text"]
UP = {"mixtral": ("w1", "w3"), "qwen2_moe": ("gate_proj", "up_proj"), "qwen3_moe": ("gate_proj", "up_proj")}
DOWN = {"mixtral": "w2", "qwen2_moe": "down_proj", "qwen3_moe": "down_proj"}


class Inputs:
    """Keeps all that it is told."""

    def __init__(self):
        self.linears, self.keys, self.values = defaultdict(list), defaultdict(list), defaultdict(list)

    def linear(self, names, x, expert):
        self.linears[names, expert].append(x.clone())

    def attention(self, layer, key, value):
        self.keys[layer.index].append(key.clone())
        self.values[layer.index].append(value.clone())

    def of(self, names, expert=None):
        return torch.cat(self.linears[names, expert])


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """Family -> directory, each made once."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = family(name, tmp_path_factory.mktemp(name))
        return made[name]

    return of


def ordinary(directory, dtype):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, experts_implementation="eager").eval()


def walked(directory, tokens=TOKENS, *, dtype=torch.float32, observer=None):
    """Walk, final states and logits."""
    walk = LayerWalk(directory, Shards.open(directory), dtype=dtype)
    states = walk.embed(tokens, micro_batch=ROWS)
    for layer in walk.layers:
        with walk.load(layer) as module:
            walk.run(layer, module, states, observer)
    with walk.head() as head:
        return walk, states, torch.cat([head(hidden) for hidden in states.values])


@pytest.mark.parametrize("name", FAMILIES)
def test_bits_of_the_ordinary_model_and_every_linear_seen(model_dir, name):
    observed = Inputs()
    for dtype in (torch.bfloat16, torch.float32):
        model = ordinary(model_dir(name), dtype)
        with torch.no_grad():
            expected = torch.cat([model(rows, use_cache=False).logits for rows in TOKENS.split(ROWS)])
        walk, _, logits = walked(model_dir(name), dtype=dtype, observer=observed)
        assert expected.std() > 0.1 and torch.equal(logits, expected)
        assert walk.unused == () and all(parameter.is_meta for parameter in walk._model.parameters())
    linears = {name for layer in walk.layers for name in layer.linears}
    assert linears == {name for names, _ in observed.linears for name in names}
    source = Shards.open(model_dir(name))
    matrices = {
        n for n in source.names() if len(source.info(n).shape) > 1 and ".norm" not in n and not n.endswith("bias")
    }
    assert linears == matrices - set(walk.embed_names) - set(walk.head_names)


@pytest.mark.parametrize("name", FAMILIES)
def test_inputs_and_keys_and_values_are_those_of_the_ordinary_model(model_dir, name):
    model, hooked, inside = (
        ordinary(model_dir(name), torch.float32),
        defaultdict(list),
        f"{find_path(model_dir(name))}.",
    )
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and path.startswith(inside):
            module.register_forward_hook(lambda _, args, __, path=path: hooked[path].append(args[0].flatten(0, -2)))
    caches = [DynamicCache() for _ in TOKENS.split(ROWS)]
    with torch.no_grad():
        for rows, cache in zip(TOKENS.split(ROWS), caches, strict=True):
            model(rows, past_key_values=cache)
    observed = Inputs()
    walked(model_dir(name), observer=observed)
    assert bool(hooked) == (name != "gpt2")  # which has no nn.Linear in its layers
    for path, inputs in hooked.items():
        assert torch.equal(observed.of((f"{path}.weight",)), torch.cat(inputs)), path
    for i, keys in observed.keys.items():
        for cache, key, value in zip(caches, keys, observed.values[i], strict=True):
            assert torch.equal(key, cache.layers[i].keys) and torch.equal(value, cache.layers[i].values)
    assert len(observed.keys) == 3


def find_path(directory):
    walk = LayerWalk(directory, Shards.open(directory))
    return walk.layers[0].module.rpartition(".")[0]


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss"])
def test_an_expert_sees_the_tokens_routed_to_it(model_dir, name):
    """Routing and experts computed here, from the checkpoint's tensors and the input of the whole block."""
    tensors, prefix = load_file(model_dir(name) / "model.safetensors"), "model.layers.2."
    model, blocks, observed = ordinary(model_dir(name), torch.float32), [], Inputs()
    model.model.layers[2].mlp.register_forward_hook(lambda _, args, __: blocks.append(args[0].flatten(0, 1)))
    with torch.no_grad():
        for rows in TOKENS.split(ROWS):
            model(rows, use_cache=False)
    walked(model_dir(name), observer=observed)
    x = torch.cat(blocks)
    router = next(
        n.removesuffix(".weight")
        for n in tensors
        if n.startswith(prefix) and n.endswith(("mlp.gate.weight", "moe.gate.weight", "router.weight"))
    )
    bias = tensors.get(f"{router}.bias", torch.zeros(6))
    chosen = (x @ tensors[f"{router}.weight"].float().T + bias.float()).topk(2).indices
    assert torch.equal(observed.of((f"{router}.weight",)), x)
    for expert in range(6):
        routed = x[(chosen == expert).any(dim=1)]
        up, down = expert_inputs(observed, tensors, name, f"{router.rpartition('.')[0]}.experts", expert, routed)
        assert len(routed) and torch.equal(by_first(up[0]), by_first(routed))
        torch.testing.assert_close(by_first(down[0]), by_first(down[1]), rtol=1e-4, atol=1e-5)


def expert_inputs(observed, tensors, name, experts, expert, x):
    """((seen by the first matmul,), (seen by the second, computed from x))."""
    if name == "gpt_oss":
        weights = [f"{experts}.gate_up_proj", f"{experts}.down_proj"]
        both = x @ tensors[weights[0]][expert].float() + tensors[f"{weights[0]}_bias"][expert].float()
        gate, up = both[:, ::2].clamp(max=7.0), both[:, 1::2].clamp(-7.0, 7.0)
        return (observed.of((weights[0],), expert),), (
            observed.of((weights[1],), expert),
            (up + 1) * gate * torch.sigmoid(1.702 * gate),
        )
    pair = tuple(f"{experts}.{expert}.{part}.weight" for part in UP[name])
    gate, up = (x @ tensors[part].float().T for part in pair)
    return (observed.of(pair),), (
        observed.of((f"{experts}.{expert}.{DOWN[name]}.weight",)),
        nn.functional.silu(gate) * up,
    )


def by_first(x):
    return x[x[:, 0].argsort()]


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_an_expert_without_tokens_is_not_reported(model_dir, name):
    observed = Inputs()
    walk, _, _ = walked(
        model_dir(name), TOKENS[:1, :2], observer=observed
    )  # two tokens, two experts each: at most four of six
    experts = {key for key in observed.linears if "experts" in key[0][0] and "layers.0." in key[0][0]}
    assert 2 * 2 <= len(experts) <= 2 * 4
    assert name == "gpt_oss" or {n for names, _ in experts for n in names} < set(walk.layers[0].linears)


def test_only_one_layer_has_weights_and_they_are_released(model_dir):
    walk = LayerWalk(model_dir("mixtral"), Shards.open(model_dir("mixtral")))
    for layer in walk.layers:
        with walk.load(layer) as module:
            real = {path for path, parameter in walk._model.named_parameters() if not parameter.is_meta}
            assert real == {f"{layer.module}.{path}" for path, _ in module.named_parameters()}
    assert all(parameter.is_meta for parameter in walk._model.parameters())


def test_weights_are_replaced_by_checkpoint_name(model_dir):
    walk = LayerWalk(model_dir("qwen3_moe"), Shards.open(model_dir("qwen3_moe")))
    weights = {name: Shards.open(model_dir("qwen3_moe")).read(name) for name in walk.layers[1].names}
    expert = {part: weights[f"model.layers.1.mlp.experts.4.{part}_proj.weight"] for part in ("gate", "up")}
    with walk.load(walk.layers[1], weights) as module:
        assert torch.equal(module.mlp.experts.gate_up_proj[4], torch.cat([expert["gate"], expert["up"]]))
        query = "model.layers.1.self_attn.q_proj.weight"
        assert module.self_attn.q_proj.weight.data_ptr() == weights[query].data_ptr()  # not copied


def test_two_streams_share_tokens_but_not_states(model_dir):
    walk, expected, _ = walked(model_dir("llama"))
    plain = walk.embed(TOKENS, micro_batch=ROWS)
    rounded = plain.clone()
    assert all(a is b for a, b in zip(plain.values, rounded.values, strict=True))
    for layer in walk.layers:
        weights = {name: Shards.open(model_dir("llama")).read(name) for name in layer.names}
        with walk.load(
            layer, {name: weight.to(torch.float8_e4m3fn).to(torch.bfloat16) for name, weight in weights.items()}
        ) as module:
            walk.run(layer, module, rounded)
        with walk.load(layer, weights) as module:
            before = list(plain.values)
            outputs = list(walk.outputs(layer, module, plain))
            walk.run(layer, module, plain, advance=False)
            assert all(a is b for a, b in zip(plain.values, before, strict=True))
            walk.run(layer, module, plain)
            assert all(torch.equal(a, b) for a, b in zip(plain.values, outputs, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(plain.values, expected.values, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(plain.values, rounded.values, strict=True))


def test_calls_are_kept_once_and_layers_differ_where_they_should(model_dir):
    walk = LayerWalk(model_dir("gemma3_text"), Shards.open(model_dir("gemma3_text")))
    calls = walk.embed(TOKENS, micro_batch=ROWS).calls
    assert [len(layers) for layers in calls] == [3, 3, 3]
    first, second, third = (call.kwargs for call in calls[0])
    assert first["position_embeddings"][0] is third["position_embeddings"][0] is not second["position_embeddings"][0]
    assert first["attention_mask"] is third["attention_mask"] is calls[1][0].kwargs["attention_mask"]
    assert first["attention_mask"][0, 0, 20, 5].item() is False  # outside the window


def test_inference_mode_gives_the_same_bits(model_dir):
    _, _, expected = walked(model_dir("phi3"))
    with torch.inference_mode():
        _, _, logits = walked(model_dir("phi3"))
    assert torch.equal(logits, expected)


def test_building_and_walking_leave_the_random_state_alone(model_dir):
    before = torch.random.get_rng_state()
    walked(model_dir("gpt_oss"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_head_takes_a_part_of_the_positions(model_dir):
    walk, states, logits = walked(model_dir("gemma2"))
    with walk.head() as head:
        torch.testing.assert_close(head(states.values[0][:, 3:9]), logits[:ROWS, 3:9], rtol=1e-5, atol=1e-6)


def test_tensors_of_no_part_are_unused(model_dir, tmp_path):
    tensors = load_file(model_dir("llama") / "model.safetensors")
    extra = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
        "model.layers.3.mlp.up_proj.weight": torch.ones(2, 2),
    }
    directory = copy(model_dir("llama"), tmp_path, tensors | extra)
    walk, _, _ = walked(directory)
    assert set(walk.unused) == set(extra) and len(walk.layers[0].names) == 9


def copy(directory, out, tensors, **config):
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    (out / "config.json").write_text(json.dumps(json.loads((directory / "config.json").read_text()) | config))
    return out


def refused(match):
    return pytest.raises(CheckpointError, match=match)


def test_missing_and_unfit_weights_are_refused_by_name(model_dir, tmp_path):
    directory = model_dir("qwen2")
    walk, source = LayerWalk(directory, Shards.open(directory)), Shards.open(directory)
    weights = {name: source.read(name) for name in walk.layers[0].names}
    query = "model.layers.0.self_attn.q_proj"
    with (
        refused(rf"{query}\.bias"),
        walk.load(walk.layers[0], {n: w for n, w in weights.items() if n != f"{query}.bias"}),
    ):
        pass
    with refused(rf"{query}\.weight"), walk.load(walk.layers[0], weights | {f"{query}.weight": torch.ones(3, 3)}):
        pass
    assert all(parameter.is_meta for parameter in walk._model.parameters())
    tensors = load_file(directory / "model.safetensors")
    del tensors["model.norm.weight"]
    broken = copy(directory, tmp_path, tensors)
    with refused(r"model\.norm\.weight"):
        walked(broken)


def test_quantized_and_unknown_models_are_refused(model_dir, tmp_path):
    tensors = load_file(model_dir("llama") / "model.safetensors")
    with refused("quantization_config"):
        walked(copy(model_dir("llama"), tmp_path, tensors, quantization_config={"quant_method": "gptq"}))
    with refused("nonesuch"):
        walked(copy(model_dir("llama"), tmp_path, tensors, model_type="nonesuch"))


def test_a_layer_that_changes_its_input_is_refused(model_dir):
    walk = LayerWalk(model_dir("llama"), Shards.open(model_dir("llama")))
    states = walk.embed(TOKENS)
    with walk.load(walk.layers[0]) as module:
        module.forward = lambda hidden, **_: hidden.mul_(2)
        with refused("in place"):
            walk.run(walk.layers[0], module, states)


def test_a_parameter_of_no_dimension_is_loaded(tmp_path):
    """Apertus' activation has scalars."""
    directory = family("apertus", tmp_path)
    with torch.no_grad():
        expected = ordinary(directory, torch.float32)(TOKENS[:ROWS], use_cache=False).logits
    assert torch.equal(walked(directory, TOKENS[:ROWS])[2], expected)


def test_what_a_decoders_own_code_raises_names_the_decoder(tmp_path):
    """RWKV computes on more than hidden states."""
    with pytest.raises(CheckpointError, match=r"embedding of decoder RwkvModel: ValueError: not enough values"):
        walked(family("rwkv", tmp_path))
