"""Reading safetensors: what is right is read bit for bit, what is damaged is named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from slipway.errors import CheckpointError
from slipway.weights.checkpoint_files import INDEX, SINGLE
from slipway.weights.shards import Shards, require_elements
from tests.support.pico import pico_model


@pytest.mark.parametrize("shards", [1, 3])
def test_reads_what_the_safetensors_library_wrote(tmp_path, shards):
    model = pico_model(tmp_path, shards=shards)
    want = {name: tensor for file in model.glob("*.safetensors") for name, tensor in load_file(file).items()}
    source = Shards.open(model)
    assert set(source.names()) == set(want)
    assert source.metadata == {"format": "pt"}
    for name, tensor in want.items():
        assert (source.info(name).dtype, source.info(name).shape) == (tensor.dtype, tuple(tensor.shape))
        assert torch.equal(source.read(name), tensor)


def test_every_dtype_scalar_and_empty_tensor(tmp_path):
    tensors = {
        "f8": torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn),
        "bf16": torch.ones(3, dtype=torch.bfloat16),
        "f16": torch.ones(1).half(),
        "scalar": torch.tensor(2.5),
        "u8": torch.arange(5, dtype=torch.uint8),
        "i64": torch.tensor([[7]]),
        "empty": torch.ones(0, 4),
    }
    save_file(tensors, tmp_path / SINGLE)
    source = Shards.open(tmp_path)
    for name, tensor in tensors.items():
        actual = source.read(name)
        assert actual.dtype == tensor.dtype and actual.shape == tensor.shape and actual.tolist() == tensor.tolist()


def test_layer_2_comes_before_layer_10(tmp_path):
    save_file({f"layers.{i}.w": torch.ones(1) for i in (10, 2, 1)}, tmp_path / SINGLE)
    assert Shards.open(tmp_path).names() == ["layers.1.w", "layers.2.w", "layers.10.w"]


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_a_truncated_shard_is_named(tmp_path, keep):
    file = pico_model(tmp_path) / SINGLE
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*copy the file again"):
        Shards.open(tmp_path)


def test_trailing_bytes_are_noticed(tmp_path):
    file = pico_model(tmp_path) / SINGLE
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match=r"by its header"):
        Shards.open(tmp_path)


def test_any_flipped_bit_of_a_header_is_an_error_or_shows_in_names_and_dtypes(tmp_path):
    file = tmp_path / SINGLE
    save_file({"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}, file)
    good = file.read_bytes()
    infos = {name: Shards.open(tmp_path).info(name) for name in ("a", "b")}
    refused = 0
    for bit in range(8 * (8 + int.from_bytes(good[:8], "little"))):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(flipped)
        try:
            source = Shards.open(tmp_path)
        except CheckpointError:
            refused += 1
        else:
            assert bit >= 64 and (
                set(source.names()) != set(infos) or any(source.info(n) != infos[n] for n in infos) or _blank(good, bit)
            )
    assert refused > 600


def _blank(good: bytes, bit: int) -> bool:
    """Padding behind the JSON: a space may become another blank."""
    return good[bit // 8 :][:1] == b" "


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_inf_are_refused_by_name(tmp_path, value):
    save_file({"good": torch.ones(2), "bad": torch.tensor([1.0, value])}, tmp_path / SINGLE)
    source = Shards.open(tmp_path)
    source.read("good")
    with pytest.raises(CheckpointError, match=r"tensor bad in .*1 of 2 values are NaN or Inf"):
        source.read("bad")


def test_a_missing_shard_is_named(tmp_path):
    model = pico_model(tmp_path, shards=3)
    (model / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003.safetensors: missing"):
        Shards.open(model)


def test_no_weights_at_all(tmp_path):
    with pytest.raises(CheckpointError, match=r"no safetensors; expected model"):
        Shards.open(tmp_path)


def test_a_tensor_missing_from_its_shard_is_named(tmp_path):
    model = pico_model(tmp_path, shards=2)
    index = json.loads((model / INDEX).read_text())
    index["weight_map"]["model.extra.weight"] = "model-00001-of-00002.safetensors"
    (model / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"tensor model.extra.weight: not in .*model-00001"):
        Shards.open(model)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../b.safetensors"}}', '{"weight_map": {"a": 1}}'],
)
def test_a_bad_index_is_named(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(CheckpointError, match=f"index .*{INDEX}"):
        Shards.open(tmp_path)


def test_an_unknown_tensor_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"tensor nope: not in the checkpoint"):
        Shards.open(pico_model(tmp_path)).read("nope")


def test_a_shard_cut_after_it_was_opened_is_named(tmp_path):
    model = pico_model(tmp_path)
    source = Shards.open(model)
    (model / SINGLE).write_bytes((model / SINGLE).read_bytes()[:-200])
    cut = 0
    for name in source.names():
        try:
            source.read(name)
        except CheckpointError as err:
            cut += 1
            assert name in str(err) and "bytes" in str(err)
    assert cut


def test_a_weight_without_elements_is_refused_and_another_tensor_is_not(tmp_path):
    save_file({"a.weight": torch.ones(2, 3), "ids": torch.ones(0, 4)}, tmp_path / SINGLE)
    require_elements(Shards.open(tmp_path))
    save_file({"a.weight": torch.ones(0, 3), "ids": torch.ones(1)}, tmp_path / SINGLE)
    with pytest.raises(CheckpointError, match=r"tensor a\.weight: shape \[0, 3\], no elements.*gather"):
        require_elements(Shards.open(tmp_path))
