"""Any checkpoint is opened alike; a virtual one notices when what it names is another, and moves with its store."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from slipway.errors import CheckpointError, StateError
from slipway.store.artifacts import Adapter, Checkpoint
from slipway.store.store import load, seal
from slipway.system.progress import Progress
from slipway.weights.checkpoint import VIRTUAL, is_virtual, materialize, open_checkpoint, write_virtual
from slipway.weights.checkpoint_files import INDEX
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.shards import Shards, natural
from tests.support.pico import pico_adapter, pico_model


def sealed(cls, path):
    seal(path, cls.kind, path.name, {})
    return load(cls, path)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def base(store):
    return sealed(Checkpoint, pico_model(store / "checkpoint" / "base", shards=3, layers=1))


@pytest.fixture
def adapter(store):
    return sealed(Adapter, pico_adapter(store / "adapter" / "lora", layers=[0]))


@pytest.fixture
def virtual(store, base, adapter):
    return joined(store, base, adapter, "virtual")


def joined(store, base, adapter, name):
    out = store / "checkpoint" / name
    out.mkdir(parents=True)
    write_virtual(out, base, adapter)
    for file in ("config.json", "tokenizer.json"):
        shutil.copyfile(base.path / file, out / file)
    return sealed(Checkpoint, out)


def tensors(source):
    return {name: source.read(name) for name in source.names()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_plain_checkpoint_is_its_shards(base):
    stored = {n: t for file in base.path.glob("*.safetensors") for n, t in load_file(file).items()}
    assert not is_virtual(base) and same(tensors(open_checkpoint(base)), stored)


def test_a_virtual_one_is_base_and_adapter_by_reference(base, adapter, virtual):
    assert is_virtual(virtual) and not list(virtual.path.glob("*.safetensors"))
    assert json.loads((virtual.path / VIRTUAL).read_text()) == {
        "base": {"uri": "checkpoint/base", "kind": "checkpoint", "digest": base.digest},
        "adapter": {"uri": "adapter/lora", "kind": "adapter", "digest": adapter.digest},
    }
    merged = MergedSource(Shards.open(base.path), LoraAdapter(adapter.path))
    assert len(merged.updates) == 7 and same(tensors(open_checkpoint(virtual)), tensors(merged))


def test_a_virtual_base_is_merged_below(store, adapter, virtual):
    twice = joined(store, virtual, adapter, "twice")
    name = "model.layers.0.self_attn.q_proj.weight"
    assert len(open_checkpoint(twice).recipe(name).updates) == 2
    assert not torch.equal(open_checkpoint(twice).read(name), open_checkpoint(virtual).read(name))


def test_a_store_that_moved_takes_its_virtual_checkpoints_along(store, tmp_path, virtual):
    before = tensors(open_checkpoint(virtual))
    store.rename(tmp_path / "moved")
    assert same(tensors(open_checkpoint(load(Checkpoint, tmp_path / "moved/checkpoint/virtual"))), before)


def test_a_base_that_changed_is_named(base, virtual):
    digest = base.digest
    pico_model(base.path, shards=3, layers=1, seed=5)
    changed = sealed(Checkpoint, base.path)
    with pytest.raises(
        CheckpointError,
        match=rf"checkpoint {base.path}: digest {changed.digest[:12]}; expected digest {digest[:12]}.*run the pipeline",
    ):
        open_checkpoint(virtual)


def test_an_adapter_that_is_gone_is_named(tmp_path, adapter, virtual):
    adapter.path.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"adapter .*/lora: missing; expected the artifact that a virtual"):
        open_checkpoint(virtual)


def test_a_reference_without_a_digest_is_refused(virtual):
    (virtual.path / VIRTUAL).write_text('{"base": {"uri": "checkpoint/base"}, "adapter": {}}')
    with pytest.raises(StateError, match=rf"reference in {virtual.path}.*expected uri, kind and digest"):
        open_checkpoint(virtual)


def test_a_virtual_checkpoint_is_written_out_as_a_plain_model(tmp_path, virtual):
    out = tmp_path / "out"
    out.mkdir()
    materialize(virtual, out, Progress(), max_bytes=5e4)
    assert (out / INDEX).exists() and (out / "tokenizer.json").exists() and not (out / VIRTUAL).exists()
    assert same(tensors(Shards.open(out)), tensors(open_checkpoint(virtual)))
    state = AutoModelForCausalLM.from_pretrained(out, dtype=torch.bfloat16).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in tensors(Shards.open(out)).items())


def test_what_the_base_keeps_in_fp32_stays_so_bit_for_bit_unless_the_adapter_changes_it(tmp_path, store, adapter):
    directory = pico_model(store / "checkpoint" / "fp32", layers=1)
    weights = load_file(directory / "model.safetensors")
    norms = [name for name in weights if weights[name].dim() == 1]
    weights |= {name: torch.rand(64) for name in norms}  # values that bf16 does not hold
    changed = "model.layers.0.mlp.up_proj.weight"
    weights[changed] = weights[changed].float()
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    virtual = joined(store, sealed(Checkpoint, directory), adapter, "virtual-fp32")
    (out := tmp_path / "out").mkdir()
    materialize(virtual, out, Progress())
    written = tensors(Shards.open(out))
    assert [name for name in written if written[name].dtype == torch.float32] == sorted(norms, key=natural)
    assert all(torch.equal(written[name], weights[name]) for name in norms)
    merged = tensors(open_checkpoint(virtual))
    assert all(torch.equal(written[name], merged[name]) for name in merged if name not in norms)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\x01"])
def test_a_damaged_virtual_json_is_one_error_that_names_it(tmp_path, text):
    (tmp_path / VIRTUAL).write_text(text)
    with pytest.raises(StateError, match=r"virtual checkpoint: .*virtual\.json"):
        open_checkpoint(Checkpoint(uri=str(tmp_path), digest=""))
