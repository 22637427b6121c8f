"""What a bundle costs: packed, packed again after an adapter changed some layers, received, checked; seconds and bytes.

`python -m benchmarks.bundle --work DIR`: a model of random bytes of `--layers` decoder layers of `--mb` MB each, an
embedding of ten of these, in shards of five layers; 6 GB of disk for a GB of weights. The second release has other
bytes in `--changed` of its layers. `disk_gb` is what the kernel charged this process for writing (/proc/self/io),
`sha256_s` one reading of the weights for a digest and nothing else, in the same invocation: what no step that reads
them can beat. Files lie in the page cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.measure import Figures, emit
from slipway.agent.bundle import layers as agent_layers
from slipway.agent.bundle.layers import Layers
from slipway.agent.bundle.tree import check_seal, make_seal, verify_tree
from slipway.deployment.bundle.files import model_parts
from slipway.deployment.bundle.oci_layout import OciLayout, PackedLayer

SHARD = 5  # layers


def main() -> None:
    """Run every step and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--mb", type=int, default=40)
    parser.add_argument("--changed", type=int, default=8)
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    emit("bundle", steps(args.work, args.layers, args.mb << 20, args.changed))


def steps(work: Path, layers: int, nbytes: int, changed: int) -> Figures:
    """Figures of each step, by its name."""
    first = write_model(work / "first", layers, nbytes, ())
    second = write_model(work / "second", layers, nbytes, range(changed))
    weights = sum(file.stat().st_size for file in first.glob("*.safetensors"))
    figures: Figures = {"weights_gb": round(weights / 1e9, 3), "changed_layers": f"{changed} of {layers}"}
    with step("sha256", figures):
        for file in sorted(first.glob("*.safetensors")):
            with file.open("rb") as stream:
                hashlib.file_digest(stream, "sha256")
    layout = OciLayout(work / "layout")
    with step("pack", figures):
        packed = pack(layout, first, "one")
    with step("pack_again", figures):
        pack(layout, first, "one")
    with step("pack_second", figures):
        following = pack(layout, second, "two")
    figures["second_moves_gb"] = round(sum(one.descriptor["size"] for one in following if one.written) / 1e9, 3)
    figures["files"] = len(packed)
    for name, cut in (("receive", agent_layers._cut_head), ("receive_copying", _copies)):
        figures |= receive(layout, work / name, name, cut)
    return figures


def receive(layout: OciLayout, root: Path, name: str, cut: Callable[[Path, int], bool]) -> Figures:
    """Take the first release in, link it, check it in full and by its seal."""
    figures: Figures = {}
    target, bundle = Layers(root), layout.bundle(layout.digest_of("one"))
    target.incoming.mkdir(parents=True)
    for digest in (bundle.digest, bundle.config, *(layer.digest for layer in bundle.layers)):
        shutil.copyfile(layout.blobs / digest, target.incoming / digest)  # what the transport writes
    os.sync()
    original, agent_layers._cut_head = agent_layers._cut_head, cut
    try:
        with step(name, figures):
            target.receive(bundle.digest, machine="x86_64")
    finally:
        agent_layers._cut_head = original
    target.link(bundle, root / "tree")
    with step(f"{name}_then_verify", figures):
        verify_tree(bundle, root / "tree")
    seal = make_seal(root / "tree")
    with step(f"{name}_then_seal", figures):
        check_seal(seal, root / "tree")
    return figures


def _copies(file: Path, size: int) -> bool:  # noqa: ARG001 (in place of `_cut_head`)
    """A file system that cannot cut a head off."""
    return False


def pack(layout: OciLayout, model: Path, ref: str) -> list[PackedLayer]:
    """The model's layers in the layout."""
    layers = [layout.add_layer(part) for part in model_parts(model)[0]]
    bundle, size = layout.add_manifest(layers, "amd64", {})
    layout.name(ref, bundle.digest, size, {}, "amd64")
    return layers


def write_model(folder: Path, layers: int, nbytes: int, changed: Container[int]) -> Path:
    """Random bytes as one matrix a layer."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    names: dict[str, str] = {}
    for start in range(-SHARD, layers, SHARD):
        tensors = {}
        for number in range(max(start, 0), min(start + SHARD, layers)) if start >= 0 else [-1]:
            other = 1 if number in changed else 0
            random = torch.Generator().manual_seed(2 * number + other + 10)
            size = 10 * nbytes if number < 0 else nbytes
            name = "model.embed_tokens.weight" if number < 0 else f"model.layers.{number}.mlp.weight"
            tensors[name] = torch.randint(0, 256, (size // 1024, 1024), dtype=torch.uint8, generator=random)
        file = f"model-{start + SHARD:05d}.safetensors"
        save_file(tensors, folder / file, {"format": "pt"})
        names |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


@contextmanager
def step(name: str, figures: Figures) -> Iterator[None]:
    """Seconds, processor seconds and bytes charged for writing of the block, into `figures`."""
    os.sync()
    begin, cpu, written = time.monotonic(), time.process_time(), charged()
    yield
    figures[f"{name}_s"] = round(time.monotonic() - begin, 3)
    figures[f"{name}_cpu_s"] = round(time.process_time() - cpu, 3)
    figures[f"{name}_disk_gb"] = round((charged() - written) / 1e9, 3)


def charged() -> int:
    """Bytes that this process made the kernel write to disks so far."""
    rows = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(rows["write_bytes"])


if __name__ == "__main__":
    main()
