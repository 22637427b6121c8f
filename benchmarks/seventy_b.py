"""Llama-3.3-70B's shape and a rank-16 adapter to NVFP4 on one GPU: what a Spark or one H100 needs for a model of 140
GB.

`python -m benchmarks.seventy_b --work DIR [--pool DIR] [--format nvfp4a16|nvfp4]`, some 5 minutes on an H100.

The weights are random. `--stored-layers` decoder layers and the embeddings lie in real shards (1.7 GB a layer and 4.2
GB), and all 80 layers are read from those in turn: every byte of the 141 GB comes by preadv from a file in the page
cache, merged with an adapter of its own, and every output byte is written to disk. W4A4 is calibrated with 128 x 512
random token ids.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from benchmarks.measure import Figures, RunFailedError, emit, prepared, run, say
from benchmarks.synthetic import SHAPES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="output and logs; 43 GB at 70b")
    parser.add_argument("--pool", type=Path, help="where the stored layers lie, by default in --work; a tmpfs does")
    parser.add_argument("--stored-layers", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, default="70b")
    parser.add_argument("--format", choices=("nvfp4a16", "nvfp4"), default="nvfp4a16")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--compile", nargs="+", choices=("on", "auto", "off"), default=["auto"], help="a run each")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", help="any key of the quantize section, key=value"
    )
    args = parser.parse_args()
    emit(f"seventy_b_{args.format}", measure(args))


def measure(args: argparse.Namespace) -> Figures:
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    folder = prepared(args.shape, (args.pool or work).resolve(), args.device, args.stored_layers)
    figures: Figures = {
        "format": args.format,
        "shape": args.shape,
        "stored_layers": args.stored_layers,
        "preparing_s": round(time.monotonic() - start),
    }
    figures["runs"] = []
    for compiled in args.compile:
        say(f"run with compile={compiled}")
        try:
            figures["runs"].append(once(args, folder, work, compiled))
        except RunFailedError as err:
            return {**figures, "error": str(err)}
        say(f"{figures['runs'][-1]}")
    return figures


def once(args: argparse.Namespace, folder: Path, work: Path, compiled: str) -> Figures:
    out, layers = work / "out", SHAPES[args.shape].layers
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.ours", folder / "model", "--adapter", folder / "adapter", "--out", out]
    command += ["--layers", layers, "--documents", folder / "model", "--compile", compiled]
    command += ["--calibration", folder / "calibration.jsonl"] if args.format == "nvfp4" else []
    for setting in (f"format={args.format}", f"device={args.device}", *args.settings):
        command += ["--set", setting]
    try:
        figures = run([*map(str, command)], work / "log", env={"TORCHINDUCTOR_CACHE_DIR": str(work / "kernels")})
    finally:
        shutil.rmtree(out, ignore_errors=True)
    before, whole = figures["warm_up_s"], figures["seconds"]
    parts = {
        "start_and_imports": figures["process_s"] - figures["call_s"],
        "headers_and_plan": figures["call_s"] - whole,
    }
    return figures | {
        "parts_s": {k: round(v, 1) for k, v in {**parts, "kernels": before, "pass": whole - before}.items()}
    }


if __name__ == "__main__":
    main()
