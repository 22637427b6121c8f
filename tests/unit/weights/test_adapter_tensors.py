"""What an adapter's tensors are called by those who write them, and pickles that hold more than tensors."""

import pickle
import re

import pytest
import torch
from safetensors.torch import save_file

from slipway.errors import AdapterError
from slipway.weights.adapter_tensors import Part, is_as_peft_saves, open_tensors, parse, parts

M = "model.layers.3.self_attn.q_proj"
NAMES = {
    f"base_model.model.{M}.lora_A.weight": Part(M, "A"),
    f"base_model.model.{M}.lora_B.weight": Part(M, "B"),
    f"base_model.model.{M}.lora_A.default.weight": Part(M, "A", 0, "default"),
    f"{M}.lora_B.my-adapter.weight": Part(M, "B", 0, "my-adapter"),
    f"module.base_model.model.{M}.lora_A.weight": Part(M, "A"),
    f"_orig_mod.base_model.model.{M}.lora_A.weight": Part(M, "A"),
    "base_model.model.model.layers.3._fsdp_wrapped_module.self_attn.q_proj.lora_A.default.weight": Part(
        M, "A", 0, "default"
    ),
    f"base_model.model.{M}.lora_B.bias": Part(M, "bias_B"),
    f"base_model.model.{M}.lora_magnitude_vector": Part(M, "magnitude"),
    f"base_model.model.{M}.lora_magnitude_vector.default.weight": Part(M, "magnitude", 0, "default"),
    "base_model.model.model.embed_tokens.lora_embedding_A": Part("model.embed_tokens", "embedding_A"),
    "base_model.model.model.embed_tokens.lora_embedding_B.default": Part(
        "model.embed_tokens", "embedding_B", 0, "default"
    ),
    "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": Part("model.embed_tokens", "tokens"),
    "base_model.model.model.mlp.experts.base_layer.lora_A.weight": Part("model.mlp.experts", "A", 1),
    "base_model.model.lm_head.base_layer.weight": Part("lm_head.weight", "whole", 1),
    "base_model.model.lm_head.weight": Part("lm_head.weight", "whole"),
    "base_model.model.lm_head.modules_to_save.default.weight": Part("lm_head.weight", "whole"),
    f"base_model.model.{M}.base_layer.bias": Part(f"{M}.bias", "whole", 1),
    "base_model.model.model.module.lora_A.weight": Part("model.module", "A"),
}


@pytest.mark.parametrize("name, part", NAMES.items())
def test_names_are_read_as_those_who_write_them_mean_them(name, part):
    assert parse(name) == part


def test_only_pefts_own_names_are_found_again_by_peft():
    assert is_as_peft_saves(f"base_model.model.{M}.lora_A.weight")
    for name in (f"{M}.lora_A.weight", f"base_model.model.{M}.lora_A.default.weight", f"module.{M}.lora_A.weight"):
        assert not is_as_peft_saves(name)


def test_two_adapters_in_one_file_are_refused():
    names = [f"base_model.model.{M}.lora_A.{adapter}.weight" for adapter in ("default", "other")]
    with pytest.raises(AdapterError, match=rf"other\.weight: the same part of {M} as .*default\.weight; expected one"):
        parts(names)


def test_a_pickle_of_tensors_is_read_and_safetensors_come_first(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.bfloat16)}
    torch.save(tensors, tmp_path / "adapter_model.bin")
    opened = open_tensors(tmp_path)
    assert opened.names() == ["a", "b"] and opened.info("a").shape == (3, 2)
    assert all(torch.equal(opened.read(name), tensor) for name, tensor in tensors.items())
    out = torch.empty(2)
    opened.fetch("a", out, 8)
    assert out.tolist() == tensors["a"].reshape(-1)[2:4].tolist()
    save_file({"c": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    assert open_tensors(tmp_path).names() == ["c"]


class Runs:
    """Its pickle runs code when it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_a_pickle_never_runs_code(tmp_path):
    torch.save({"a": Runs(tmp_path / "ran")}, tmp_path / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"adapter_model\.bin: .*expected a pickle of tensors alone") as caught:
        open_tensors(tmp_path)
    assert not (tmp_path / "ran").exists() and len(str(caught.value)) < 2000
    (tmp_path / "adapter_model.bin").write_bytes(pickle.dumps({"a": Runs(tmp_path / "ran")}))
    with pytest.raises(AdapterError, match=r"adapter_model\.bin"):
        open_tensors(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02", b"garbage" * 100])
def test_a_damaged_pickle_is_named(tmp_path, content):
    (tmp_path / "adapter_model.bin").write_bytes(content)
    with pytest.raises(AdapterError, match=r"adapter .*adapter_model\.bin: .*expected a pickle of tensors alone"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("value", [torch.ones(2), [torch.ones(2)], {"a": 1}, {"model": {"a": torch.ones(1)}}])
def test_a_pickle_of_something_else_is_named(tmp_path, value):
    torch.save(value, tmp_path / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"adapter_model\.bin: .*expected tensors by name"):
        open_tensors(tmp_path)


def test_no_file_at_all_is_named(tmp_path):
    with pytest.raises(
        AdapterError, match=r"no adapter_model\.safetensors and no adapter_model\.bin; .*copy the adapter"
    ):
        open_tensors(tmp_path)


@pytest.mark.parametrize("name", ["adapter_model-00001-of-00002.safetensors", "model.safetensors", "adapter.pt"])
def test_shards_and_other_names_are_named_as_what_peft_does_not_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(AdapterError, match=rf"but {re.escape(name)}, which PEFT does not read; .*join them into one"):
        open_tensors(tmp_path)
