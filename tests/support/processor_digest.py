"""A process under settings that imitate another processor: `python -m tests.support.processor_digest FOLDER`.

FOLDER holds `model`, `adapter`, `rows.jsonl` and `jobs.json`: name -> parameters of `slipway quantize`, or null for a
merge in bf16. Prints JSON: name -> [sha256 over every tensor's name, dtype, shape and bytes, the kernels that ran].
Static input scales are left out: they come out of a network's matmuls, whose last bits differ by processor.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import torch

from slipway.streaming.directories import merge_directory, quantize_directory
from slipway.system.progress import Progress
from slipway.weights.shards import Shards
from tests.support.streaming import CALIBRATED, config


def main(folder: Path) -> None:
    jobs, results = json.loads((folder / "jobs.json").read_text()), {}
    model, adapter = folder / "model", folder / "adapter"
    for name, params in jobs.items():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            out = Path(scratch) / "out"
            if params is None:
                figures = merge_directory(model, adapter, out, config(), Progress())
            else:
                rows = folder / "rows.jsonl" if params["format"] in CALIBRATED else None
                figures = quantize_directory(model, adapter, rows, out, config(**params), Progress())
            results[name] = [digest(out), figures["kernels"]]
    sys.stdout.write(json.dumps(results) + "\n")


def digest(folder: Path) -> str:
    """sha256 of all tensors of a model directory but input scales."""
    source, sha = Shards.open(folder), hashlib.sha256()
    for name in source.names():
        if not name.endswith("input_scale"):
            tensor = source.read(name)
            sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
