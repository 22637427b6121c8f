"""Who shares a scalar, an input scale, a format."""

from slipway.quantization import fusion

DENSE = [
    f"model.layers.{i}.{m}.weight"
    for i in (0, 1)
    for m in ("mlp.gate_proj", "mlp.up_proj", "self_attn.k_proj", "self_attn.o_proj")
]
DENSE += ["model.layers.0.self_attn.q_proj.weight", "lm_head.weight"]
LISTED = [f"l.0.mlp.experts.{e}.{m}.weight" for e in (0, 1) for m in ("down_proj", "gate_proj", "up_proj")]
MIXTRAL = [f"l.0.block_sparse_moe.experts.{e}.{m}.weight" for e in (0, 10) for m in ("w1", "w2", "w3")]
STACKED = ["l.0.mlp.experts.gate_up_proj", "l.0.mlp.experts.down_proj"]


def test_fused_projections_of_one_parent_share():
    assert fusion.groups(DENSE, "fused") == [
        [DENSE[0], DENSE[1]],
        [DENSE[2], DENSE[8]],
        [DENSE[3]],
        [DENSE[4], DENSE[5]],
        [DENSE[6]],
        [DENSE[7]],
        [DENSE[9]],
    ]


def test_none_shares_when_told_so_and_only_experts_for_fp8():
    assert fusion.groups(DENSE + LISTED, "none") == [[name] for name in DENSE + LISTED]
    assert fusion.groups(DENSE, "experts") == [[name] for name in DENSE]
    assert fusion.groups(LISTED, "experts") == [[LISTED[0]], LISTED[1:3], [LISTED[3]], LISTED[4:]]
    assert fusion.groups(MIXTRAL, "experts") == [
        [MIXTRAL[0], MIXTRAL[2]],
        [MIXTRAL[1]],
        [MIXTRAL[3], MIXTRAL[5]],
        [MIXTRAL[4]],
    ]


def test_inputs_are_shared_over_the_experts_of_a_layer():
    assert fusion.input_groups(LISTED) == [[LISTED[0], LISTED[3]], [LISTED[1], LISTED[2], LISTED[4], LISTED[5]]]
    assert fusion.input_groups(STACKED) == [[STACKED[0]], [STACKED[1]]]
    assert fusion.input_groups(DENSE) == fusion.groups(DENSE, "fused")


def test_a_unit_is_what_a_runtime_runs_in_one_format():
    assert fusion.units(LISTED + STACKED) == [LISTED + STACKED]
    assert fusion.units(MIXTRAL + DENSE[:2]) == [MIXTRAL, DENSE[:2]]


def test_phi_has_fused_projections_of_its_own_that_are_no_experts():
    names = [
        "model.layers.0.mlp.gate_up_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.self_attn.qkv_proj.weight",
    ]
    assert fusion.groups(names, "fused") == fusion.units(names) == [[name] for name in names]
    assert fusion.container("model.layers.0.mlp.gate_up_proj") is None


def test_latent_attention():
    names = [f"l.0.self_attn.{m}.weight" for m in ("kv_a_proj_with_mqa", "kv_b_proj", "q_a_proj", "q_b_proj")]
    assert fusion.groups(names, "fused") == [[names[0], names[2]], [names[1]], [names[3]]]
