"""The merge stage: virtual equals materialized equals PEFT, with a proof, and nothing written for a bad adapter."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from slipway.config.merge import MergeConfig
from slipway.errors import AdapterError, CheckpointError
from slipway.pipeline.workspace import Workspace
from slipway.stages.merge import merge
from slipway.store.artifacts import Adapter, Checkpoint
from slipway.store.store import load, seal
from slipway.system.progress import Progress
from slipway.weights.checkpoint import is_virtual, materialize, open_checkpoint
from slipway.weights.checkpoint_files import INDEX
from slipway.weights.shards import Shards
from tests.support.pico import HIDDEN, pico_adapter, pico_model


def sealed(cls, path):
    seal(path, cls.kind, "k", {})
    return load(cls, path)


@pytest.fixture
def base(tmp_path):
    return sealed(Checkpoint, pico_model(tmp_path / "base", shards=3))


@pytest.fixture
def adapter(tmp_path):
    return sealed(Adapter, pico_adapter(tmp_path / "adapter"))


def run(tmp_path, base, adapter, name="out", **params):
    out = tmp_path / name
    out.mkdir()
    merge(base, adapter, MergeConfig(**params), Workspace(out, tmp_path, tmp_path, Progress()))
    return sealed(Checkpoint, out)


def test_virtual_materialized_and_exported_are_the_same_tensors(tmp_path, base, adapter):
    virtual = run(tmp_path, base, adapter)
    plain = run(tmp_path, base, adapter, "plain", materialize=True, max_shard_gb=1e-4)
    exported = tmp_path / "exported"
    exported.mkdir()
    materialize(virtual, exported, Progress())
    assert is_virtual(virtual) and not is_virtual(plain)
    assert not list(virtual.path.glob("*.safetensors")) and (plain.path / INDEX).exists()
    want = open_checkpoint(virtual)
    for other in (open_checkpoint(plain), Shards.open(exported)):
        assert other.names() == want.names()
        assert all(torch.equal(other.read(name), want.read(name)) for name in want.names())


def test_transformers_loads_the_materialized_checkpoint(tmp_path, base, adapter):
    plain = run(tmp_path, base, adapter, materialize=True, max_shard_gb=1e-4)
    model = AutoModelForCausalLM.from_pretrained(plain.path)
    source, state = open_checkpoint(plain), model.state_dict()
    assert model.dtype == torch.bfloat16
    assert all(torch.equal(state[name], source.read(name)) for name in source.names())
    assert max(f.stat().st_size for f in plain.path.glob("*.safetensors")) < 1.1e5
    assert AutoTokenizer.from_pretrained(plain.path).chat_template


def test_the_proof_says_what_was_proved(tmp_path, base, adapter):
    artifact = run(tmp_path, base, adapter, proof_layers=3, proof_tokens=16)
    proof = artifact.read_json("proof.json")
    assert (proof["base"], proof["adapter"]) == (base.digest, adapter.digest)
    shares = proof["share_one_bf16_step_from_peft"]
    assert len(shares) == artifact.summary["proof_layers"] == 3
    assert artifact.summary["proof_share_one_step_from_peft"] == max(shares.values()) < 1e-3
    logits = proof["logits"]
    assert (
        logits["tokens"] == 16
        and 0 < logits["mean_abs"] < 0.05
        and 0 <= logits["kl"] < 1e-3
        and logits["top1_agreement"] > 0.9
    )
    assert artifact.summary["updated_tensors"] == 28 and artifact.summary["logits_kl"] == logits["kl"]


def test_a_merge_whose_logits_stray_is_refused(tmp_path, base, adapter):
    with pytest.raises(CheckpointError, match=r"mean absolute logit difference.*at most 1e-09"):
        run(tmp_path, base, adapter, max_logit_error=1e-9)


def test_logits_are_skipped_with_a_reason_over_a_virtual_base(tmp_path, base, adapter):
    once = run(tmp_path, base, adapter)
    twice = run(tmp_path, once, adapter, "twice")
    proof = twice.read_json("proof.json")
    assert proof["logits"] is None and proof["logits_not_run"] == "the base is itself virtual"
    source = open_checkpoint(twice)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(source.read(name), open_checkpoint(once).read(name))


def test_a_bad_adapter_writes_nothing(tmp_path, base):
    extra = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.full((4, HIDDEN), float("nan"))}
    adapter = sealed(Adapter, pico_adapter(tmp_path / "nan", extra=extra))
    with pytest.raises(AdapterError, match=r"q_proj\.lora_A\.weight .*NaN"):
        run(tmp_path, base, adapter)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_config_says_bf16_whatever_the_base_was(tmp_path, adapter):
    base = sealed(Checkpoint, pico_model(tmp_path / "base", dtype=torch.float32))
    config = json.loads((base.path / "config.json").read_text())
    (base.path / "config.json").write_text(json.dumps({**config, "torch_dtype": "float32"}))
    plain = run(tmp_path, base, adapter, materialize=True)
    assert (plain.read_json("config.json")["dtype"], "torch_dtype" in plain.read_json("config.json")) == (
        "bfloat16",
        False,
    )
    assert {t.dtype for t in load_file(plain.path / "model.safetensors").values()} == {torch.bfloat16}


def test_full_fine_tuning_passes_through_and_transformers_loads_it(tmp_path, base):
    trained = pico_model(tmp_path / "trained", seed=7)
    for file in trained.glob("*.json*"):
        file.unlink()
    whole = run(tmp_path, base, sealed(Adapter, trained), "whole")
    assert not is_virtual(whole) and whole.summary["updated_tensors"] == whole.summary["tensors"]
    expected = load_file(trained / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(whole.path)
    assert torch.equal(model.model.layers[1].mlp.up_proj.weight, expected["model.layers.1.mlp.up_proj.weight"])
    assert whole.read_json("proof.json")["trained"] == load(Adapter, trained).digest


def test_full_weights_of_another_model_are_refused_before_anything_is_written(tmp_path, base):
    other = sealed(Adapter, pico_model(tmp_path / "other", layers=2))
    with pytest.raises(AdapterError, match=r"trained weights .*lacks"):
        run(tmp_path, base, other, "none")
    assert list((tmp_path / "none").iterdir()) == []
