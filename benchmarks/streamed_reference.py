"""The streamed reference beside transformers' forward that holds the model: time, memory, and the same figures.

`python -m benchmarks.streamed_reference --work DIR`: random rows with random answers; ours walks the bf16 model and its
NVFP4 form together, the peer loads the bf16 model whole and reads the same rows, padded alike. Each is a process of its
own. `--shape 8b --device cuda --rows 256` is the form for an H100.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.measure import ROOT, Figures, emit, package_paths, prepared, run, say
from benchmarks.synthetic import SHAPES

PARTS = ("ours", "whole")
_BUDGET_GB = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="slice")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=256, help="of the longest row; half of a row is its answer")
    parser.add_argument("--part", choices=PARTS, help="measure this one here; the benchmark itself calls it so")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.part:
        print(json.dumps({"ours": ours, "whole": whole}[args.part](args)))
        return
    folder = prepared(args.shape, args.work, args.device)
    quantize(folder, args.device)
    figures = {part: measured(part, args) for part in PARTS}
    difference = abs(figures["ours"]["nats_per_token"] - figures["whole"]["nats_per_token"])
    sizes = {"shape": args.shape, "rows": args.rows, "tokens": figures["ours"].pop("tokens")}
    emit("streamed_reference", {**sizes, **figures, "difference_nats_per_token": round(difference, 7)})


def measured(part: str, args: argparse.Namespace) -> Figures:
    """One part as a process: its figures with its peaks of memory."""
    say(f"{part}: {args.shape}, {args.rows} rows")
    command = [sys.executable, "-m", "benchmarks.streamed_reference", "--part", part, "--work", str(args.work)]
    command += ["--shape", args.shape, "--device", args.device, "--rows", str(args.rows), "--tokens", str(args.tokens)]
    return run(command, args.work / "log")


def quantize(folder: Path, device: str) -> None:
    """FOLDER/quantized: the model in NVFP4, weights only, unless it is there."""
    out = folder / "quantized"
    if (out / "hf_quant_config.json").exists():
        return
    say(f"quantizing {folder / 'model'}")
    command = [sys.executable, "-m", "slipway", "quantize", str(folder / "model"), "--out", str(out)]
    command += ["--set", "format=nvfp4a16", "--set", f"device={device}"]
    env = {**os.environ, **package_paths()}
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr, env=env)


def answers(args: argparse.Namespace) -> list:
    """Rows of random tokens, from half the longest length on; the second half of each is its answer."""
    from slipway.calibration.answers import Answer

    random, vocabulary = torch.Generator().manual_seed(3), SHAPES[args.shape].vocab
    lengths = torch.randint(args.tokens // 2, args.tokens + 1, (args.rows,), generator=random).tolist()
    rows = [tuple(torch.randint(vocabulary, (n,), generator=random).tolist()) for n in lengths]
    return [Answer(f"r{i}", row, len(row) // 2) for i, row in enumerate(rows)]


def ours(args: argparse.Namespace) -> Figures:
    """Both models walked."""
    from slipway.streaming.streamed_reference import Machine, StreamedReference
    from slipway.system.progress import Progress
    from slipway.weights.shards import Shards

    folder, rows = args.work / args.shape, answers(args)
    scores_folder = args.work / "scores"
    scores_folder.mkdir(exist_ok=True)
    for file in scores_folder.iterdir():
        file.unlink()
    start = time.monotonic()
    machine = Machine(torch.device(args.device), dtype_of(args), _BUDGET_GB * 1e9)
    walk = StreamedReference(Shards.open(folder / "model"), folder / "model", folder / "quantized", machine)
    built = time.monotonic()
    scores = walk.score(rows, scores_folder, Progress())
    end = time.monotonic()
    count = sum(one.tokens for one in scores)
    return {
        "models": 2,
        "call_s": round(end - start, 2),
        "walk_s": round(end - built, 2),
        "passes": len(walk.passes(rows)),
        "tokens": sum(len(row.tokens) for row in rows),
        "nats_per_token": -sum(one.reference for one in scores) / count,
        "kl": round(sum(one.kl * one.tokens for one in scores) / count, 5),
        **machine.peak(),
    }


@torch.no_grad()
def whole(args: argparse.Namespace) -> Figures:
    """transformers with the bf16 model in memory: log-likelihoods alone."""
    from transformers import AutoModelForCausalLM

    from slipway.calibration.answers import batches
    from slipway.streaming.streamed_reference import BATCH_TOKENS, Machine

    start = time.monotonic()
    model = AutoModelForCausalLM.from_pretrained(args.work / args.shape / "model", dtype=dtype_of(args))
    model = model.to(args.device).eval()
    loaded = time.monotonic()
    total, count = 0.0, 0
    for batch in batches(answers(args), BATCH_TOKENS, by_length=False):
        logits = model(batch.tokens.to(args.device), use_cache=False).logits
        for row, one in enumerate(batch.answers):
            span = logits[row, one.start - 1 : len(one.tokens) - 1].float().log_softmax(-1)
            following = torch.tensor(one.tokens[one.start :], device=span.device)[:, None]
            total += span.gather(1, following).double().sum().item()
            count += len(following)
    end = time.monotonic()
    machine = Machine(torch.device(args.device), dtype_of(args), 0.0)
    return {
        "models": 1,
        "call_s": round(end - start, 2),
        "load_s": round(loaded - start, 2),
        "nats_per_token": -total / count,
        **machine.peak(),
    }


def dtype_of(args: argparse.Namespace) -> torch.dtype:
    """As `Machine.here`: bf16 on a GPU, fp32 on a CPU."""
    return torch.bfloat16 if args.device == "cuda" else torch.float32


if __name__ == "__main__":
    main()
