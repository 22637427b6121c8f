"""GB of bf16 weights that one core merges, and merges and encodes to NVFP4, per second of its own CPU time.

`python -m benchmarks.merge_cost --work DIR`: compiled kernels, the `slice` shape with its rank-16 adapter, files in the
page cache, nothing written. CPU time, best of three rounds: what others do on the machine matters less.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from benchmarks.synthetic import prepare
from slipway.quantization.compiled import Kernels
from slipway.quantization.formats import FORMATS
from slipway.streaming.loader import CPU_BAND, Loader
from slipway.weights.lora import LoraAdapter
from slipway.weights.merged import MergedSource
from slipway.weights.shards import Shards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    folder, cpu = prepare("slice", parser.parse_args().work), torch.device("cpu")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    source = MergedSource(Shards.open(folder / "model"), LoraAdapter(folder / "adapter"))
    kernels = Kernels(cpu, "on", 0)
    loader, encode = Loader(source, cpu, kernels), kernels(FORMATS["nvfp4a16"].encode)
    rates = [one_round(source, loader, encode) for _ in range(4)][1:]  # the first one compiles
    names = ("merged_gb_per_cpu_s", "merged_and_encoded_gb_per_cpu_s")
    print(
        json.dumps({name: round(max(values), 3) for name, values in zip(names, zip(*rates, strict=True), strict=True)})
    )


def one_round(source: MergedSource, loader: Loader, encode) -> tuple[float, float]:
    """GB per CPU second of merging alone, and with encoding."""
    scale, nbytes, merging, encoding = torch.full((), 0.0017), 0, 0.0, 0.0
    for name in source.updates:
        start = time.thread_time()
        loader.begin(source.info(name).nbytes)
        weight = loader.load(name).weight
        middle = time.thread_time()
        for band in torch.split(weight, max(1, CPU_BAND // weight.shape[1])):
            encode(band, scale)
        merging, encoding = merging + middle - start, encoding + time.thread_time() - middle
        nbytes += weight.nbytes
        loader.end(1e9)
    return nbytes / 1e9 / merging, nbytes / 1e9 / (merging + encoding)


if __name__ == "__main__":
    main()
