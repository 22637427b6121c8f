"""Users that fit, counted by hand, and the ways out in their order."""

import json

import pytest
import torch
from safetensors.torch import save_file

from slipway.config.load import load_config
from slipway.config.target import TargetConfig
from slipway.errors import ConfigError
from slipway.planning.kv_cache import UnknownCacheError
from slipway.planning.serving_capacity import ServedModel, Wish, model_in, model_of_row, serving_capacity
from tests.support.shapes import LLAMA_70B, MIXTURE

TARGETS = {
    name: load_config(overrides=[f"layers.target=targets/{name}"]).target
    for name in ("spark", "spark-pair", "dgx-h100", "dgx-b200")
}
SPARK = TARGETS["spark"]
GEMMA = {
    "model_type": "gemma2",
    "num_hidden_layers": 42,
    "hidden_size": 3584,
    "intermediate_size": 14336,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 256,
    "vocab_size": 256000,
    "sliding_window": 4096,
}


def test_a_70b_in_four_bits_on_a_spark_by_hand():
    """KV 163,840 values a token in fp16 are 327,680 bytes: 2.68 GB for 8,192 tokens."""
    model = model_of_row(LLAMA_70B, "nvfp4")
    embedding = 2 * 128256 * 8192
    assert model.weights == pytest.approx((70.55e9 - embedding) * 0.5625 + embedding * 2, rel=1e-6)
    got = serving_capacity(model, Wish(users=8, context=8192, batched_tokens=2048), SPARK)
    logits = 128256 * 12
    assert (got.room, got.token, got.request) == (108e9, 327_680, 327_680 * 8192)
    fixed = 2048 * (4 * 8192 + 2 * 28672) * 2 + 2.5e9
    assert got.compute == pytest.approx(fixed + 8 * logits)
    assert got.users == int((108e9 - model.weights - fixed - 64 * got.token) // (got.request + logits)) == 23
    assert got.fits and got.ways_out == ()


def test_the_ways_out_come_in_order_with_figures():
    wish = Wish(users=64, context=8192)
    got = serving_capacity(model_of_row(LLAMA_70B, "nvfp4"), wish, SPARK, list(TARGETS.values()))
    assert [way.name for way in got.ways_out] == [
        "a shorter context",
        "FP8 KV cache",
        "fewer users",
        "more of the same machine",
        "another target",
        "another target",
    ]
    by_name = {way.name: way for way in reversed(got.ways_out)}
    assert by_name["fewer users"].users == got.users < 64 and not by_name["fewer users"].enough
    assert 2 * got.users <= by_name["FP8 KV cache"].users <= 2 * got.users + 1
    assert by_name["more of the same machine"].change == "spark-pair with 2 GPU(s) for each layer"
    assert all(way.enough for way in got.ways_out if way.name in ("a shorter context", "another target"))
    context = int(by_name["a shorter context"].change.removeprefix("engine.context="))
    again = serving_capacity(model_of_row(LLAMA_70B, "nvfp4"), Wish(users=64, context=context), SPARK)
    longer = serving_capacity(model_of_row(LLAMA_70B, "nvfp4"), Wish(users=64, context=context + 256), SPARK)
    assert again.fits and not longer.fits
    assert ("users at once", f"{got.users} of 64 asked for") in got.rows()
    assert any(what == "way out: FP8 KV cache" and " of 64 users" in value for what, value in got.rows())


def test_weights_that_do_not_fit_leave_no_user_but_other_machines():
    got = serving_capacity(model_of_row(LLAMA_70B, "bf16"), Wish(4, 4096), SPARK, list(TARGETS.values()))
    assert got.users == 0
    assert {way.name for way in got.ways_out if way.users == 0} <= {"FP8 KV cache"}
    assert {way.change.split()[0] for way in got.ways_out if way.enough} == {"spark-pair", "dgx-h100", "dgx-b200"}


def test_sliding_windows_are_a_way_out_where_the_model_has_them():
    model = ServedModel("gemma", 18.5e9, GEMMA)
    whole = serving_capacity(model, Wish(64, 32768), SPARK)
    way = next(way for way in whole.ways_out if way.name == "sliding windows")
    assert way.users == serving_capacity(model, Wish(64, 32768, windowed=True), SPARK).users
    assert whole.users < way.users <= 2 * whole.users
    llama = serving_capacity(model_of_row(LLAMA_70B, "nvfp4"), Wish(500, 8192), SPARK)
    assert "sliding windows" not in {way.name for way in llama.ways_out}


def test_tensor_parallel_uses_the_targets_own_gpus_first():
    got = serving_capacity(model_of_row(LLAMA_70B, "fp8"), Wish(32, 8192), TARGETS["dgx-h100"])
    way = next(way for way in got.ways_out if way.name == "tensor parallel")
    assert (way.change, way.enough) == ("4 GPUs of dgx-h100 for each layer", True)


def test_a_target_without_a_gpu_is_measured_against_the_machines_memory():
    model, wish = model_of_row(MIXTURE, "nvfp4"), Wish(2, 2048)
    assert serving_capacity(model, wish, TargetConfig(), memory=64e9).room == pytest.approx(0.85 * 64e9)
    with pytest.raises(ConfigError, match="target local: no GPU"):
        serving_capacity(model, wish, TargetConfig())


def test_a_directory_counts_as_it_is_stored_or_in_another_format(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**GEMMA, "vocab_size": 4, "hidden_size": 8}))
    save_file({"a": torch.zeros(4, 8, dtype=torch.bfloat16), "b": torch.zeros(96, 8)}, tmp_path / "m.safetensors")
    assert model_in(tmp_path).weights == 2 * 32 + 4 * 768
    assert model_in(tmp_path, "fp8").weights == 2 * 32 + 768


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"kv": "int3"}, "format of the KV cache: int3"),
        ({"tensor_parallel": 2}, "at most 1 on spark"),
        ({"tensor_parallel": 0}, "GPUs for each layer: 0"),
        ({"users": 0}, "users: 0"),
        ({"context": -1}, "context: -1"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(change, match):
    with pytest.raises(ConfigError, match=match):
        serving_capacity(model_of_row(LLAMA_70B, "fp8"), Wish(**{"users": 1, "context": 128, **change}), SPARK)


def test_what_is_not_known_has_no_figure():
    with pytest.raises(UnknownCacheError, match="cannot tell"):
        serving_capacity(ServedModel("new", 1e9, {**GEMMA, "model_type": "novel"}), Wish(1, 128), SPARK)
    with pytest.raises(ConfigError, match="format of the weights: int5"):
        model_of_row(LLAMA_70B, "int5")
