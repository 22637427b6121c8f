"""A release packed and signed, taken in by an agent: a second one moves only what changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slipway.agent.bundle.layers import Layers
from slipway.agent.bundle.signature import OMS, Trust, check_signature, read_files_signature, read_signatures
from slipway.agent.bundle.tree import verify_tree
from slipway.deployment.bundle.oci_layout import OciLayout
from slipway.deployment.bundle.release import PackedRelease, architecture_of, pack
from slipway.engines.bundle_key import key_document
from slipway.engines.machine_facts import MachineFacts
from slipway.engines.warm_cache import fill, harvest
from slipway.errors import BundleError, ConfigError
from slipway.store.artifacts import Engine, SearchIndex
from slipway.store.references import reference_to
from slipway.store.store import Store, load
from tests.support.shippable import (
    DOCUMENTS,
    LAYERS,
    PLAN,
    checkpoint,
    files_of_an_index,
    gpu_engine,
    packed,
    signer,
)
from tests.support.target import make_engine


def send(release: PackedRelease, layers: Layers) -> list[str]:
    """What rsync does: the missing blobs, by name."""
    missing = layers.missing(release.blobs)
    layers.incoming.mkdir(parents=True, exist_ok=True)
    for digest in missing:
        shutil.copy(release.layout / "blobs/sha256" / digest, layers.incoming / digest)
    return missing


def test_a_release_reaches_a_target_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    release, layers = packed(store, tmp_path / "bundles"), Layers(tmp_path / "target")
    assert sorted(send(release, layers)) == sorted(release.blobs)
    bundle = layers.receive(release.bundle.digest, machine="aarch64")
    layers.link(bundle, tmp_path / "tree")
    verify_tree(bundle, tmp_path / "tree")
    trust = Trust("enforce", (signer(store).public,))
    signatures = read_signatures(release.signature, layers.receive_blob)
    assert check_signature(bundle.digest, signatures, trust).startswith("signed by key")
    assert read_files_signature(release.files_signature, layers.receive_blob).startswith(b"{")
    assert (tmp_path / "tree/card.md").read_text() == DOCUMENTS["card.md"]
    assert {one.role for one in bundle.layers} == {"engine", "cache", "document"}


def test_others_read_what_arrived(tmp_path: Path) -> None:
    """The reference program of OpenSSF model signing verifies the files, as docs/bundles.md has it; transformers loads
    the checkpoint to the logits of the one that was packed."""
    from transformers import AutoModelForCausalLM

    store, layers, tree = Store(tmp_path / "store"), Layers(tmp_path / "target"), tmp_path / "models"
    model = checkpoint(store, "q")
    engine = gpu_engine(store, "e", model)
    where = OciLayout(tmp_path / "bundles")
    release = pack(engine, DOCUMENTS, signer(store), where, name="r", model="m", architecture="arm64")
    send(release, layers)
    layers.link(layers.receive(release.bundle.digest, machine="aarch64"), tree)
    (tree / OMS).write_bytes(read_files_signature(release.files_signature, layers.receive_blob))
    key = store.root / "signing/key.pub"
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(tree), "--signature", str(tree / OMS)]
    command += ["--public_key", str(key), "--no-ignore-git-paths"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    rows = torch.arange(24).reshape(2, 12)
    with torch.inference_mode():
        packed_logits, arrived = (
            AutoModelForCausalLM.from_pretrained(folder)(rows).logits for folder in (model.path, tree / "engine/model")
        )
    assert packed_logits.std() > 0
    assert torch.equal(packed_logits, arrived)

    weights = tree / "engine/model/model-layer-00001.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.unlink()  # a hard link to the layer's file
    weights.write_bytes(flipped)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert weights.name in done.stdout + done.stderr


def test_a_second_release_moves_only_the_layers_that_an_adapter_changed(tmp_path: Path) -> None:
    store, layers = Store(tmp_path / "store"), Layers(tmp_path / "target")
    first = packed(store, tmp_path / "bundles")
    send(first, layers)
    layers.receive(first.bundle.digest, machine="aarch64")
    second = packed(store, tmp_path / "bundles", "0002-bbbbbbbb", changed_layers=(1,))
    moved = set(send(second, layers))
    names = {member.name for layer in second.bundle.layers if layer.digest in moved for member in layer.members}
    weights = {name for name in names if "safetensors" in name}
    assert weights == {"models/engine/model/model-layer-00001.safetensors"}
    assert LAYERS > 1
    assert second.written == sum(layer.size for layer in second.bundle.layers if layer.digest in moved)
    records = {"models/engine/boots.json", "models/engine/manifest.json", "models/files.json"}
    records.add("models/sbom.json")
    assert names - weights <= records, "the release's own records"


def test_an_index_moves_once_and_alone(tmp_path: Path) -> None:
    """With another engine nothing of it moves; another index of the same engine moves its own files, and the records
    that name it."""
    store, layers = Store(tmp_path / "store"), Layers(tmp_path / "target")
    index, other = files_of_an_index(store, "i"), files_of_an_index(store, "j", "python")

    def moved(name: str, index: SearchIndex, changed_layers: tuple[int, ...] = ()) -> set[str]:
        release = packed(store, tmp_path / "bundles", name, changed_layers, index)
        sent = set(send(release, layers))
        bundle = layers.receive(release.bundle.digest, machine="aarch64")
        assert bundle.annotations["dev.slipway.index"] == index.digest
        assert {one.role for one in bundle.layers} == {"engine", "cache", "index", "document"}
        files = {member.name for layer in bundle.layers if layer.digest in sent for member in layer.members}
        return {file.removeprefix("models/") for file in files}

    of_index = {"index/manifest.json", "index/index.json", "index/chunks.jsonl", "index/vectors.faiss"}
    of_index.add("index/bm25/data.csc.index.npy")
    assert of_index < moved("1", index)
    assert not [name for name in moved("2", index, (1,)) if name.startswith("index/")]
    assert moved("3", other, (1,)) == {*of_index, "files.json", "sbom.json"}
    refs = OciLayout(tmp_path / "bundles").refs()
    assert refs == ["1", "2", "3"]


def test_an_index_on_another_machine_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    index = files_of_an_index(store, "i")
    there = {"address": "ssh://ann@far", "folder": "/f", "python": "/p", "files": ["vectors.faiss"]}
    (index.path / "placed.json").write_text(json.dumps(there))
    with pytest.raises(ConfigError, match="its files lie on ssh://ann@far only"):
        packed(store, tmp_path / "bundles", index=index)


def test_packing_twice_writes_nothing_and_gives_the_same_digest(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    engine = gpu_engine(store, "e", checkpoint(store, "q"))

    def once(layout: str) -> PackedRelease:
        where = OciLayout(tmp_path / layout)
        return pack(engine, DOCUMENTS, signer(store), where, name="r", model="m", architecture="arm64")

    first, second, elsewhere = once("a"), once("a"), once("b")
    assert first.written > 0
    assert second.written == 0
    assert first.bundle.digest == second.bundle.digest == elsewhere.bundle.digest


def test_older_bundles_leave_the_layout(tmp_path: Path) -> None:
    store, notes = Store(tmp_path / "store"), list[str]()
    layout = OciLayout(tmp_path / "bundles")
    for number in range(3):
        engine = make_engine(store, {"answer": str(number)})
        pack(
            engine,
            {},
            signer(store),
            layout,
            name=f"r{number}",
            model="m",
            architecture="amd64",
            keep=2,
            note=notes.append,
        )
    assert layout.refs() == ["r1", "r2"]
    assert "removed" in notes[-1]


def test_names_and_architecture(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    engine = gpu_engine(store, "e", checkpoint(store, "q"))
    assert architecture_of(engine) == "arm64"
    assert architecture_of(make_engine(store, {"answer": "x"})) in ("amd64", "arm64")
    with pytest.raises(BundleError, match=r"document release\.json"):
        pack(
            engine,
            {"release.json": ""},
            signer(store),
            OciLayout(tmp_path / "b"),
            name="r",
            model="m",
            architecture="arm64",
        )


def test_report_4_caches_reach_the_target_with_their_mtimes(tmp_path: Path) -> None:
    """flashinfer#4490: what the target's engine would take is as harvested, to the nanosecond; a copy without times is
    no release."""
    facts = MachineFacts(**dict.fromkeys(MachineFacts.model_fields, "known"))
    key = key_document(PLAN, facts, "weights")
    store, layers = Store(tmp_path / "store"), Layers(tmp_path / "target")
    live = tmp_path / "live/triton"
    live.mkdir(parents=True)
    (live / "kernel.cubin").write_bytes(b"kernel")
    os.utime(live / "kernel.cubin", ns=(7, 1_700_000_000_123_456_789))
    model = checkpoint(store, "q")
    with store.create(Engine, "e", {"inputs": {"checkpoint": reference_to(model, store.root)}}) as out:
        (out / "serve.json").write_text(PLAN.model_dump_json())
        harvest(tmp_path / "live", out, key)
    engine = load(Engine, store.dir("engine", "e"))
    layout = OciLayout(tmp_path / "bundles")
    release = pack(engine, {}, signer(store), layout, name="r", model="m", architecture="arm64")
    send(release, layers)
    layers.link(layers.receive(release.bundle.digest, machine="aarch64"), tmp_path / "tree")
    (tmp_path / "start").mkdir()
    assert fill(tmp_path / "tree/engine", tmp_path / "start", key) == []
    copied = shutil.copytree(tmp_path / "tree", tmp_path / "copied", copy_function=shutil.copyfile)
    with pytest.raises(BundleError, match=r"mode|mtime"):
        verify_tree(release.bundle, Path(copied))
