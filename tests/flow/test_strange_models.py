"""Models of classes that no table here has: merged to PEFT's result, quantized, and reloaded by transformers.

Their configs are transformers' defaults but for sizes. Quantized in FP8 and loaded by the library's own quantizer,
which takes every Linear that the document does not name: logits stay near, and no tensor is without a place. What PEFT
itself refuses to adapt (layers of Mamba) is merged on attention alone.
"""

from __future__ import annotations

import warnings

import pytest
import torch

from slipway.streaming.directories import merge_directory
from slipway.system.progress import Progress
from slipway.weights.architecture_table import ARCHITECTURES
from slipway.weights.model_config import read_config
from tests.flow.test_families import spread
from tests.support import families
from tests.support.families import load_family, logits, write_family
from tests.support.peft_adapters import write_adapter
from tests.support.streaming import config as quick
from tests.support.streaming import quantized

LAYERS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
MAMBA = {"mamba_n_groups": 1, "mamba_d_state": 16, "mamba_d_head": 16}
STRANGE = {
    "bamba": {**MAMBA, "head_dim": 16, "mamba_n_heads": 8, "attn_layer_indices": [1]},
    "bloom": {"n_layer": 2, "n_head": 4},
    "cohere2": {**LAYERS, "tie_word_embeddings": True},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32, "head_dim": 16},
    "exaone4": {**LAYERS, "head_dim": 16},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_chunk_size": 8},
    "gptj": {"n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8},
    "hunyuan_v1_dense": {},
    "nemotron": {},
    "olmo2": {},
    "seed_oss": {},
    "stablelm": {"head_dim": 16},
    "starcoder2": {"head_dim": 16, "tie_word_embeddings": True},
}
TARGETS = {"bloom": ["query_key_value", "dense"]}
NEAR = 0.3  # of the logits' spread, weights and activations in 8 bits; 0.06 to 0.22 measured


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """As families, for the time of a test."""
    for name, keys in STRANGE.items():
        monkeypatch.setitem(families.FAMILIES, name, keys)
    monkeypatch.setattr(families, "DECODERS", (*families.DECODERS, *STRANGE))


@pytest.mark.parametrize("name", STRANGE)
def test_a_class_that_nobody_here_made_is_merged_quantized_and_reloaded(tmp_path, name):
    base = write_family(name, tmp_path / "base")
    assert read_config(base)["architectures"][0] not in ARCHITECTURES
    targets = TARGETS.get(name, ["q_proj", "v_proj"])
    peft = write_adapter(name, base, tmp_path / "adapter", target_modules=targets)
    merge_directory(base, tmp_path / "adapter", tmp_path / "merged", quick(), Progress())
    merged = load_family(name, tmp_path / "merged")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.merge_and_unload().state_dict()
    for key, value in merged.state_dict().items():
        assert torch.allclose(value, theirs[key], rtol=2**-7, atol=2**-20), key
    out = quantized(tmp_path / "merged", tmp_path / "out", format="fp8-dynamic", layout="compressed-tensors")
    assert 0 < spread(logits(load_family(name, out)), logits(merged)) < NEAR
