"""One `slipway quantize` in this process, for a benchmark that watches it from outside; prints its figures as one JSON
line.

`call_s` is the whole call, checks of the finished checkpoint included, without the start of Python and the imports;
`call_cpu_s` its processor time, of all threads: less than cores x `call_s` when it waited, or when others had the
cores. With `--layers N` the model's decoder layers come from MODEL's few, in turn: a model larger than the disk, every
byte still read from a file.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path

import torch

from slipway.config.load import section
from slipway.config.quantize import QuantizeConfig
from slipway.streaming.directories import quantize_directory
from slipway.streaming.export import export
from slipway.streaming.source_model import Model
from slipway.system.progress import Progress
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.shards import MergeRecipe, Shards, TensorInfo, natural

_LAYER = re.compile(r"(model\.layers\.)(\d+)(\..*)")


class RepeatedLayers:
    """A WeightSource of `layers` decoder layers over a checkpoint that stores fewer: layer i is read from layer i mod
    stored."""

    def __init__(self, stored: Shards, layers: int) -> None:
        self._stored = stored
        held = {int(match[2]) for name in stored.names() if (match := _LAYER.match(name))}
        self._at: dict[str, str] = {}
        for name in stored.names():
            match = _LAYER.match(name)
            copies = range(int(match[2]), layers, len(held)) if match else ()
            self._at |= {f"{match[1]}{i}{match[3]}": name for i in copies} if match else {name: name}

    @property
    def metadata(self):
        return self._stored.metadata

    def names(self) -> list[str]:
        return sorted(self._at, key=natural)

    def info(self, name: str) -> TensorInfo:
        return self._stored.info(self._at[name])

    def read(self, name: str) -> torch.Tensor:
        return self._stored.read(self._at[name])

    def recipe(self, name: str) -> MergeRecipe:
        return self._stored.recipe(self._at[name])

    def as_stored(self, name: str) -> TensorInfo | None:
        return self._stored.as_stored(self._at[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--layers", type=int, help="decoder layers of the model that config.json in --documents describes"
    )
    parser.add_argument("--documents", type=Path, help="directory of that config.json")
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    params = section("quantize", {"compile": args.compile}, args.settings)
    start, cpu = time.monotonic(), time.process_time()
    if args.layers:
        figures = quantize_repeated(args, params)
    else:
        figures = quantize_directory(args.model, args.adapter, args.calibration, args.out, params, Lines())
    spent = {"call_s": round(time.monotonic() - start, 3), "call_cpu_s": round(time.process_time() - cpu, 2)}
    print(json.dumps(figures | spent | gpu_figures()))


def quantize_repeated(args: argparse.Namespace, params: QuantizeConfig) -> dict[str, object]:
    stored = Shards.open(args.model)
    source = MergedSource(RepeatedLayers(stored, args.layers), LoraAdapter(args.adapter))
    model = Model(source, args.documents, {"base": stored.fingerprint()}, args.calibration)
    return export(model, args.out, params, Lines())


class Lines(Progress):
    """A line every few seconds on stderr."""

    def __init__(self) -> None:
        super().__init__(every_s=5)

    def _write(self, **event: object) -> None:
        if event["event"] == "progress":
            keys = ("gb_per_s", "eta_s", "tensor", "anon_gb")
            figures = " ".join(f"{key}={event[key]}" for key in keys if key in event)
            print(
                f"{event['what']} {event['done'] / 1e9:.1f} of {event['total'] / 1e9:.1f} GB {figures}",
                file=sys.stderr,
                flush=True,
            )


def gpu_figures() -> dict[str, float]:
    """Peaks of torch's allocators: device memory held by tensors and taken from the device, pinned host memory; GB."""
    if not torch.cuda.is_initialized():
        return {}
    pinned = torch.cuda.memory.host_memory_stats()
    return {
        "gpu_tensors_peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 3),
        "gpu_reserved_peak_gb": round(torch.cuda.max_memory_reserved() / 1e9, 3),
        "pinned_host_peak_gb": round(pinned.get("allocated_bytes.peak", 0) / 1e9, 3),
    }


if __name__ == "__main__":
    main()
