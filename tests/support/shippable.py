"""Engines as artifacts of a store that are shipped as bundles: a GPU engine's, with a checkpoint and caches."""

from __future__ import annotations

import os
from pathlib import Path

from slipway.config.trust import SigningConfig
from slipway.deployment.bundle.oci_layout import OciLayout
from slipway.deployment.bundle.release import PackedRelease, pack
from slipway.deployment.bundle.signing import Signer, signer_for
from slipway.engines.driver import Limits, ServePlan
from slipway.store.artifacts import Engine, Quantized
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


def packed(
    store: Store, layout: Path, name: str = "0001-aaaaaaaa", changed_layers: tuple[int, ...] = ()
) -> PackedRelease:
    """A signed release of such an engine in the layout."""
    key = f"k{'-'.join(map(str, changed_layers))}"
    engine = gpu_engine(store, key, checkpoint(store, key, changed_layers))
    return pack(engine, DOCUMENTS, signer(store), OciLayout(layout), name=name, model="m", architecture="arm64")


def signer(store: Store) -> Signer:
    """The store's own signer."""
    return signer_for(SigningConfig(), store.root)


__all__ = ["DOCUMENTS", "LAYERS", "PLAN", "checkpoint", "gpu_engine", "packed", "signer"]
