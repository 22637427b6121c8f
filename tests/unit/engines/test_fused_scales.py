"""One FP8 scale for the projections that a runtime runs as one matmul, against torch's own amax over what PEFT and the
model say lies together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from slipway.engines.fused_scales import FusedScales, fused_scales
from tests.oracles.modelopt_oracle import tensors
from tests.support.pico import pico_adapter, pico_model
from tests.support.streaming import calibration_rows, quantized, same

LAYERS = 2
FUSED = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("mlp.gate_proj", "mlp.up_proj"))
ALONE = ("self_attn.o_proj", "mlp.down_proj")
GROUPS = [
    [f"model.layers.{layer}.{name}.weight" for name in group]
    for layer in range(LAYERS)
    for group in (*FUSED, *((name,) for name in ALONE))
]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return pico_model(tmp_path_factory.mktemp("base"), layers=LAYERS)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    return calibration_rows(tmp_path_factory.mktemp("rows") / "train.jsonl")


def expected(weights: dict[str, torch.Tensor], group: list[str]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The scale of a group and the codes of its members, from whole tensors in plain torch."""
    scale = torch.cat([weights[name].float().flatten() for name in group]).abs().amax() / 448
    codes = {
        name: (weights[name].float() / scale).to(torch.bfloat16).clamp(-448, 448).to(torch.float8_e4m3fn)
        for name in group
    }
    return scale, codes


@pytest.mark.parametrize("layout", ["modelopt", "compressed-tensors"])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_shared_scale_is_that_of_the_largest_weight_of_the_group(tmp_path, base, rows, layout, workers):
    out = quantized(
        base, tmp_path / "out", calibration=rows, format="fp8", layout=layout, fused_scales="shared", workers=workers
    )
    weights, written = tensors(base), tensors(out)
    for group in GROUPS:
        scale, codes = expected(weights, group)
        for name in group:
            assert written[f"{name}_scale"].item() == scale.item(), name
            assert torch.equal(written[name].view(torch.uint8), codes[name].view(torch.uint8)), name
    assert fused_scales(out) == FusedScales(groups=2 * LAYERS, differing=0)


def test_own_scales_differ_and_are_counted_and_only_fused_weights_change(tmp_path, base, rows):
    own = quantized(base, tmp_path / "own", calibration=rows, format="fp8")
    shared = quantized(base, tmp_path / "shared", calibration=rows, format="fp8", fused_scales="shared")
    assert fused_scales(own) == FusedScales(groups=2 * LAYERS, differing=2 * LAYERS)
    assert str(fused_scales(own).note).startswith(f"fp8: {2 * LAYERS} of {2 * LAYERS} fused layers")
    one, other = tensors(own), tensors(shared)
    for group in GROUPS:
        largest = max(group, key=lambda name: tensors(base)[name].abs().amax())
        for name in group:
            equal = torch.equal(one[name].view(torch.uint8), other[name].view(torch.uint8))
            assert equal == (name == largest), name
    changed = {f"{name}{end}" for group in GROUPS for name in group for end in ("", "_scale")}
    rest = [name for name in one if name not in changed]
    assert rest
    assert all(torch.equal(one[name], other[name]) for name in rest)


def test_requantizing_as_a_runtime_does_changes_own_scales_and_leaves_shared_ones(tmp_path, base, rows):
    """vLLM: dequantize each projection by its scale, quantize by the largest of the group."""

    def moved(folder: Path) -> int:
        written, count = tensors(folder), 0
        for group in GROUPS:
            largest = max(written[f"{name}_scale"].item() for name in group)
            for name in group:
                values = written[name].float() * written[f"{name}_scale"]
                again = (values / largest).clamp(-448, 448).to(torch.float8_e4m3fn).float() * largest
                count += not torch.allclose(again, values, rtol=1e-6, atol=0)
        return count

    own = quantized(base, tmp_path / "own", calibration=rows, format="fp8")
    assert moved(own) == LAYERS * 3  # all of q/k/v and gate/up but the largest of each
    assert moved(quantized(base, tmp_path / "s", calibration=rows, format="fp8", fused_scales="shared")) == 0


def test_a_merge_on_the_way_and_gptq_share_as_well(tmp_path, base, rows):
    adapter = pico_adapter(tmp_path / "adapter", layers=range(LAYERS))
    for method in ("max", "gptq"):
        out = quantized(
            base,
            tmp_path / method,
            adapter=adapter,
            calibration=rows,
            format="fp8",
            method=method,
            fused_scales="shared",
        )
        assert fused_scales(out) == FusedScales(groups=2 * LAYERS, differing=0)


def test_fp8_of_a_mixture_shares_and_nvfp4_always_did(tmp_path, base, rows):
    rules = {"*.0.self_attn.*": "fp8"}
    plain = quantized(base, tmp_path / "plain", calibration=rows, format="nvfp4", rules=rules)
    mixed = quantized(base, tmp_path / "mixed", calibration=rows, format="nvfp4", rules=rules, fused_scales="shared")
    assert (fused_scales(plain), fused_scales(mixed)) == (FusedScales(1, 1), FusedScales(1, 0))
    for written in (tensors(plain), tensors(mixed)):
        for group in GROUPS:
            scales = {written[f"{name}_scale_2"].item() for name in group if f"{name}_scale_2" in written}
            assert len(scales) == (0 if "0.self_attn" in group[0] else 1), group


def test_auto_without_an_engine_is_own_and_the_summary_says_which(tmp_path, base, rows):
    own = quantized(base, tmp_path / "own", calibration=rows, format="fp8", fused_scales="own")
    assert same(own, quantized(base, tmp_path / "auto", calibration=rows, format="fp8"))


def test_a_scale_that_is_cut_off_is_named(tmp_path, base, rows):
    out = quantized(base, tmp_path / "out", calibration=rows, format="fp8")
    (file,) = out.glob("*.safetensors")
    length = int.from_bytes(file.read_bytes()[:8], "little")
    header = json.loads(file.read_bytes()[8 : 8 + length])
    last = max(header[name]["data_offsets"][0] for name in header if name.endswith("q_proj.weight_scale"))
    with file.open("r+b") as f:
        f.truncate(8 + length + last + 2)
    with pytest.raises(Exception, match=r"weight_scale in .*: cut off; expected 4 bytes"):
        fused_scales(out)
