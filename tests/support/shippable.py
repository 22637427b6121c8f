"""Engines as artifacts of a store that are shipped as bundles: a GPU engine's, with a checkpoint and caches."""

from __future__ import annotations

import json
import os
from pathlib import Path

from slipway.config.trust import SigningConfig
from slipway.deployment.bundle.oci_layout import OciLayout
from slipway.deployment.bundle.release import PackedRelease, pack
from slipway.deployment.bundle.signing import Signer, signer_for
from slipway.engines.driver import Limits, ServePlan
from slipway.store.artifacts import Engine, Quantized, SearchIndex
from slipway.store.references import reference_to
from slipway.store.store import Store, load
from tests.support.pico import LAYERS, pico_model

PLAN = ServePlan(
    kind="vllm",
    target="spark",
    image="example.org/vllm@sha256:" + "5" * 64,
    argv=["vllm", "serve", "{model}", "--port", "{port}"],
    limits=Limits(context=2048, slots=4),
    build="0.32",
)
DOCUMENTS = {"card.md": "# Card\n", "verdict.json": '{"outcome": "pass"}\n'}


def checkpoint(store: Store, key: str, changed_layers: tuple[int, ...] = (), shards: int = 2) -> Quantized:
    """A pico model of one seed, some layers of which have other weights, as an adapter on those leaves it."""
    import torch
    from safetensors.torch import load_file, save_file

    with store.create(Quantized, key, {"stage": "quantize", "inputs": {}}) as out:
        pico_model(out, shards=shards)
        for file in out.glob("*.safetensors"):
            tensors = load_file(file)
            for name, tensor in tensors.items():
                parts = name.split(".")
                if "layers" in parts and int(parts[2]) in changed_layers and tensor.dim() > 1:
                    tensors[name] = tensor + torch.ones_like(tensor)
            save_file(tensors, file, {"format": "pt"})
        (out / "training.log").write_text("no engine reads this\n")
    return load(Quantized, store.dir("quantized", key))


def gpu_engine(store: Store, key: str, model: Quantized) -> Engine:
    """A bundle that loads `model`, with harvested caches whose mtimes matter."""
    provenance = {
        "stage": "engine",
        "inputs": {"checkpoint": reference_to(model, store.root)},
        "params": {"serving": {"arch": "arm64"}},
    }
    with store.create(Engine, key, provenance) as out:
        (out / "serve.json").write_text(PLAN.model_dump_json())
        (out / "boots.json").write_text("[]\n")
        cached = out / "caches/files/triton/kernel.so"
        cached.parent.mkdir(parents=True)
        cached.write_bytes(b"\x7fELF" * 100)
        cached.chmod(0o750)
        os.utime(cached, ns=(0, 1_700_000_000_123_456_789))
        (out / "caches/manifest.json").write_text("{}\n")
    return load(Engine, store.dir("engine", key))


def files_of_an_index(store: Store, key: str, words: str = "perl") -> SearchIndex:
    """Files as an index has them, one of them large enough for a layer of its own; nothing can search them."""
    with store.create(SearchIndex, key, {"stage": "index", "inputs": {}}) as out:
        (out / "index.json").write_text(json.dumps({"rows": 1}))
        (out / "chunks.jsonl").write_text(json.dumps({"document": words}) + "\n")
        (out / "bm25").mkdir()
        (out / "bm25/data.csc.index.npy").write_bytes(words.encode() * 10)
        (out / "vectors.faiss").write_bytes(words.encode() * (1 << 19))
    return load(SearchIndex, store.dir("index", key))


def packed(
    store: Store,
    layout: Path,
    name: str = "0001-aaaaaaaa",
    changed_layers: tuple[int, ...] = (),
    index: SearchIndex | None = None,
) -> PackedRelease:
    """A signed release of such an engine in the layout, with an index where one is given."""
    key = f"k{'-'.join(map(str, changed_layers))}"
    engine = gpu_engine(store, key, checkpoint(store, key, changed_layers))
    where = OciLayout(layout)
    return pack(engine, DOCUMENTS, signer(store), where, name=name, model="m", architecture="arm64", index=index)


def signer(store: Store) -> Signer:
    """The store's own signer."""
    return signer_for(SigningConfig(), store.root)


__all__ = ["DOCUMENTS", "LAYERS", "PLAN", "checkpoint", "files_of_an_index", "gpu_engine", "packed", "signer"]
