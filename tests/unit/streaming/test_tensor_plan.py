"""What becomes of every tensor, from headers alone."""

import math
from dataclasses import replace

import pytest
import torch

from slipway.errors import CheckpointError, ConfigError
from slipway.quantization.formats import FORMATS
from slipway.quantization.layouts import LAYOUTS
from slipway.streaming import tensor_plan
from slipway.streaming.tensor_plan import Unit, attention_of, kv_outputs, make_plan, outputs, parts
from slipway.weights.shards import MergeRecipe, TensorInfo
from slipway.weights.weight_roles import WeightRoles, weight_roles

LAYOUT = LAYOUTS["modelopt"]
LAYER = {
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (32, 64),
    "self_attn.v_proj": (32, 64),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (128, 64),
    "mlp.up_proj": (128, 64),
    "mlp.down_proj": (64, 128),
}


class Headers:
    """A WeightSource that has no bytes: a plan must not ask for any."""

    def __init__(self, shapes, dtype=torch.bfloat16):
        self.metadata, self.infos = {}, {name: TensorInfo(dtype, shape) for name, shape in shapes.items()}

    def names(self):
        return list(self.infos)

    def info(self, name):
        return self.infos[name]

    def read(self, name):
        pytest.fail(f"{name} was read")

    def recipe(self, name):
        return MergeRecipe(self, name, ())

    def as_stored(self, name):
        return self.info(name)


def llama(layers=2, **more):
    shapes = {"model.embed_tokens.weight": (320, 64), "lm_head.weight": (320, 64), "model.norm.weight": (64,)}
    shapes |= {f"model.layers.{i}.{name}.weight": shape for i in range(layers) for name, shape in LAYER.items()}
    return Headers({**shapes, **more})


def weights_of(source, **more):
    """As the Llama's class has it, with the roles of `more` (tensor -> role) over it."""
    weights = weight_roles({"architectures": ["LlamaForCausalLM"]}, source)
    return replace(weights, roles={**weights.roles, **more})


def planned(source, fmt="nvfp4a16", exclude=("lm_head",), rules=None, roles=None, **how):
    weights = replace(weights_of(source, **(roles or {})), **how)
    return make_plan(source, FORMATS[fmt], exclude, rules, weights=weights)


def test_matrices_are_quantized_and_the_rest_is_passed_on():
    plan = planned(llama(**{"model.layers.0.self_attn.q_proj.bias": (64,), "model.ids": (3, 64)}))
    assert len(plan.linears) == 14 and all(name.endswith("_proj.weight") for name in plan.linears)
    assert set(plan.copied) == {
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.norm.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.ids",
    }
    assert plan.unquantized == ["lm_head", "model.embed_tokens"]


@pytest.mark.parametrize("role", ["embedding", "router", "tower", "mtp", "transposed", "experts_out_first", "unknown"])
def test_what_no_runtime_multiplies_by_is_kept_by_name(role):
    source = llama(**{"model.extra.weight": (64, 64)})
    plan = planned(source, roles={"model.extra.weight": role})
    assert "model.extra.weight" in plan.copied and "model.extra" in plan.unquantized


@pytest.mark.parametrize("role", ["embedding", "router", "mtp", "transposed", "unknown"])
def test_a_rule_for_what_is_always_kept_is_refused(role):
    source = llama(**{"model.extra.weight": (64, 64)})
    with pytest.raises(ConfigError, match=rf"quantize\.rules\[model\.extra\]: fp8 for modules that are kept: {role}"):
        planned(source, rules={"model.extra": "fp8"}, roles={"model.extra.weight": role})


def test_a_tower_is_quantized_when_a_rule_asks_for_it_alone():
    source, roles = llama(**{"visual.blocks.0.fc1.weight": (64, 64)}), {"visual.blocks.0.fc1.weight": "tower"}
    assert "visual.blocks.0.fc1.weight" not in planned(source, rules={"*": "fp8"}, roles=roles).formats
    assert planned(source, rules={"visual.*": "fp8"}, roles=roles).formats["visual.blocks.0.fc1.weight"].name == "fp8"


def test_patterns_know_a_module_as_stored_and_as_its_class_has_it_and_any_head():
    source = llama(**{"odd.output.weight": (320, 64)})
    roles, paths = {"odd.output.weight": "head"}, {"model.layers.0.mlp.down_proj": "model.text.layers.0.mlp.down_proj"}
    plan = planned(source, exclude=["lm_head", "model.text.*"], roles=roles, paths=paths)
    assert {"odd.output", "model.layers.0.mlp.down_proj"} <= set(plan.unquantized)
    assert "model.layers.1.mlp.down_proj.weight" in plan.formats
    scheme = plan.scheme("1", kv_cache=False)
    assert {"model.layers.0.mlp.down_proj", "model.text.layers.0.mlp.down_proj"} <= set(scheme.both(plan.unquantized))


def test_norms_that_their_names_do_not_call_so_are_named_for_readers_that_go_by_names():
    source = llama(**{"model.ln_f.weight": (64,), "model.ln_f.bias": (64,), "model.final_norm.weight": (64,)})
    plan = planned(source, roles=dict.fromkeys(["model.ln_f.weight", "model.final_norm.weight"], "other"))
    assert "model.ln_f" in plan.unquantized and "model.final_norm" not in plan.unquantized


def test_what_stays_in_fp32_is_written_as_stored():
    source = llama()
    source.infos["model.norm.weight"] = TensorInfo(torch.float32, (64,))
    units = planned(source, fp32=frozenset({"model.norm.weight"})).units(source)
    assert [unit.name for unit in units if unit.as_stored] == ["model.norm.weight"]
    assert outputs(units, source, LAYOUT)["model.norm.weight"] == TensorInfo(torch.float32, (64,))
    assert parts(units, source)["model.norm.weight"] == [256]


def test_the_first_matching_rule_wins_and_exclusions_come_before_rules():
    rules = {"*.0.*o_proj": "fp8-dynamic", "*o_proj": "bf16", "*.down_proj": "fp8-dynamic"}
    plan = planned(llama(), exclude=["lm_head", "*.1.*down_proj"], rules=rules)
    chosen = {
        name: plan.formats[f"model.layers.{name}.weight"].name
        for name in ("0.self_attn.o_proj", "0.mlp.down_proj", "0.mlp.up_proj")
    }
    assert chosen == {
        "0.self_attn.o_proj": "fp8-dynamic",
        "0.mlp.down_proj": "fp8-dynamic",
        "0.mlp.up_proj": "nvfp4a16",
    }
    assert {"model.layers.1.self_attn.o_proj", "model.layers.1.mlp.down_proj"} <= set(plan.unquantized)


def test_a_tied_head_is_kept_by_name_and_stored_once():
    plan = planned(llama(), repeated=frozenset({"lm_head.weight"}), tied_heads=("lm_head",))
    assert "lm_head.weight" not in plan.copied and "lm_head" in plan.unquantized
    with pytest.raises(ConfigError, match="pattern"):
        planned(Headers({"lm_head.weight": (64, 64)}), exclude=["model.norm"])


def test_a_default_pattern_may_match_nothing():
    source = llama()
    del source.infos["lm_head.weight"]
    roles = replace(weight_roles({"model_type": "llama", "tie_word_embeddings": True}, source), tied_heads=())
    assert make_plan(source, FORMATS["fp8"], ["lm_head"], weights=roles).formats


def test_units_are_fused_groups_in_the_order_of_the_checkpoint():
    source = llama(layers=11)
    units = planned(source).units(source)
    quantized = [unit for unit in units if unit.fmt]
    leaves = [[name.split(".")[-2] for name in unit.weights] for unit in quantized[:4]]
    assert leaves == [["down_proj"], ["gate_proj", "up_proj"], ["o_proj"], ["q_proj", "k_proj", "v_proj"]]
    assert len(quantized) == 44
    assert sum(unit.nbytes for unit in units) == sum(source.info(name).nbytes for name in source.names())
    layers = [int(unit.name.split(".")[2]) for unit in quantized]
    assert layers == sorted(layers)


@pytest.mark.parametrize("fmt, sizes", [("fp8", {1}), ("mxfp4", {1}), ("nvfp4", {1, 2, 3})])
def test_weights_that_share_nothing_are_units_of_their_own(fmt, sizes):
    source = llama()
    assert {len(unit.weights) for unit in planned(source, fmt).units(source)} == sizes


def test_large_tensors_are_passed_on_in_pieces_that_make_up_the_whole(monkeypatch):
    monkeypatch.setattr(tensor_plan, "PIECE", 1000 * 128)
    source = Headers({"embed.weight": (2500, 64), "small.weight": (3, 64), "none.weight": (0, 64), "one": ()})
    weights = WeightRoles(dict.fromkeys(source.names(), "embedding"))
    units = make_plan(source, FORMATS["fp8"], [], {"*": "bf16"}, weights=weights).units(source)
    pieces = [unit for unit in units if unit.name == "embed.weight"]
    assert [unit.rows for unit in pieces] == [(0, 1000), (1000, 1000), (2000, 500)] and len(
        {unit.key for unit in pieces}
    ) == 3
    assert sum(unit.nbytes for unit in pieces) == 2500 * 128
    assert parts(units, source) == {
        "embed.weight": [128_000, 128_000, 64_000],
        "small.weight": [384],
        "none.weight": [0],
        "one": [2],
    }


@pytest.mark.parametrize(
    "fmt, layout", [(fmt, layout) for fmt in FORMATS for layout in LAYOUTS if (fmt, layout) != ("mxfp4", "modelopt")]
)
def test_outputs_are_all_there_is_and_floats_are_bf16(fmt, layout):
    source = llama()
    plan = planned(Headers({name: info.shape for name, info in source.infos.items()}, torch.float32), fmt)
    planned_outputs = outputs(plan.units(source), source, LAYOUTS[layout])
    assert all(planned_outputs[name] == TensorInfo(torch.bfloat16, source.info(name).shape) for name in plan.copied)
    weights = sum(info.nbytes for info in planned_outputs.values()) - sum(
        planned_outputs[name].nbytes for name in plan.copied
    )
    quantized = sum(math.prod(shape) for shape in LAYER.values()) * 2
    assert weights == pytest.approx(quantized * FORMATS[fmt].bits / 8, rel=0.06)


def test_stacked_experts_are_planned_as_they_lie():
    gate_up, down = (f"model.layers.0.mlp.experts.{leaf}" for leaf in ("gate_up_proj", "down_proj"))
    source, stacked = (
        llama(**{gate_up: (4, 64, 96), down: (4, 48, 64)}),
        dict.fromkeys((gate_up, down), "experts_in_first"),
    )
    planned_outputs = outputs(planned(source, roles=stacked).units(source), source, LAYOUT)
    assert planned_outputs[gate_up].shape == (4, 32, 96)
    assert planned_outputs[f"{gate_up}_weight_scale"].shape == (4, 4, 96)
    with pytest.raises(CheckpointError, match=r"down_proj: 40 input features; expected a multiple of 16"):
        planned(llama(**{down: (4, 40, 64)}), roles={down: "experts_in_first"})
    plan = planned(llama(**{gate_up: (4, 96, 64)}), roles={gate_up: "experts_out_first"})
    assert gate_up in plan.copied and gate_up in plan.unquantized


@pytest.mark.parametrize("fmt, width, block", [("nvfp4", 72, 16), ("mxfp4", 80, 32)])
def test_blocks_that_do_not_divide_are_named_with_the_way_out(fmt, width, block):
    odd = llama(**{"model.layers.1.mlp.down_proj.weight": (64, width)})
    with pytest.raises(
        CheckpointError,
        match=rf"model\.layers\.1\.mlp\.down_proj\.weight: {width} input.*multiple of {block}.*exclude.*fp8",
    ):
        planned(odd, fmt)
    assert planned(odd, "fp8").linears
    assert planned(odd, fmt, exclude=["lm_head", "model.layers.1.mlp.down_proj"]).linears


def test_patterns_that_match_nothing_and_unknown_formats_are_refused():
    with pytest.raises(ConfigError, match=r"quantize pattern: \*\.dwn_proj; .*modules are like model\.embed_tokens"):
        planned(llama(), exclude=["*.dwn_proj"])
    with pytest.raises(ConfigError, match=r"quantize\.rules\[\*\]: int4; expected bf16 or one of nvfp4"):
        planned(llama(), rules={"*": "int4"})
    with pytest.raises(ConfigError, match=r"quantize pattern: \*_proj; .*no matrices"):
        make_plan(Headers({}), FORMATS["fp8"], ["*_proj"], weights=WeightRoles({}))


def test_rules_may_not_part_what_a_runtime_fuses():
    for rules in ({"*.k_proj": "fp8"}, {"*.gate_proj": "bf16"}):
        plan = planned(llama(), "nvfp4", rules=rules)
        with pytest.raises(ConfigError, match=r"expected one: runtimes run them as one matmul"):
            LAYOUT.require(plan.scheme("1", kv_cache=False))


def test_kv_scales_are_named_by_the_attention():
    assert attention_of(["l.0.mlp.up_proj.weight", "l.0.attn.k_proj.weight"]) == "l.0.attn"
    assert attention_of(["l.0.mixer.in_proj.weight"]) is None
    tower = {"visual.layers.0.k_proj.weight": "tower"}
    assert set(kv_outputs(weights_of(llama(layers=1), **tower), LAYOUT)) == {
        "model.layers.0.self_attn.k_proj.k_scale",
        "model.layers.0.self_attn.v_proj.v_scale",
    }
    with pytest.raises(CheckpointError, match=r"quantize\.kv_cache: fp8, but no k_proj"):
        kv_outputs(WeightRoles({"l.0.qkv_proj.weight": "linear"}), LAYOUT)


def test_a_unit_is_named_by_its_first_weight():
    assert Unit(("a.weight", "b.weight"), None, 0).name == "a.weight"
