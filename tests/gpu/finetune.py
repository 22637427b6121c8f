"""QLoRA of a random 8B through the real entry point, interrupted once, then merged and quantized by our own stages.

`python -m tests.gpu.finetune --work DIR --tokenizer DIR [--size tiny]`. Stage `train_nemo` renders the shipped row, has
a process of this machine run `automodel` on it, is hit by a SIGTERM to the worker in the middle, resumes by itself and
verifies the end. Every part has a time limit and says what it found at once; the last line, and $OUT/qlora8b.json, are
all figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.finetune_model import MODELS, overrides, prepare
from benchmarks.measure import emit, say
from slipway.config.load import Config, load_config
from slipway.config.target import TargetConfig
from slipway.pipeline.execute import execute
from slipway.store.artifacts import Adapter, Checkpoint, Dataset
from slipway.store.store import Store, load
from slipway.training.nemo.params import NemoTrainParams
from slipway.training.tuning.synthetic_rows import write_synthetic

ROOT = Path(__file__).resolve().parents[2]
STEPS, INTERRUPTED, ROW_TOKENS = 12, 4, {"8b": 90_000, "tiny": 12_000}
Doc = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--size", choices=MODELS, default="8b")
    parser.add_argument("--timeout", type=float, default=400.0, help="seconds for the fine-tuning, both attempts")
    args = parser.parse_args()
    run = Run(args.size, args.work.resolve(), args.tokenizer, args.timeout)
    figures: Doc = {"size": args.size}
    for part in (run.model, run.artifacts, run.finetune, run.resumed, run.quantize):
        start = time.monotonic()
        result = part()
        figures |= result | {f"{part.__name__}_s": round(time.monotonic() - start, 1)}
        say(f"{part.__name__}: {figures[f'{part.__name__}_s']} s, {json.dumps(result)}")
        partial(figures)
    emit("qlora8b", figures)


def partial(figures: Doc) -> None:
    """What is known so far survives a machine that is taken away."""
    if out := os.environ.get("OUT"):
        (Path(out) / "qlora8b.partial.json").write_text(json.dumps(figures) + "\n")


class Run:
    """The parts, in order; each uses what the one before left in `work`."""

    def __init__(self, size: str, work: Path, tokenizer: Path, timeout: float) -> None:
        self.size, self.work, self.tokenizer, self.timeout = size, work, tokenizer, timeout
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.folder, self.store = work / size, Store(work / "store")
        self.key = f"{size}-{os.getpid()}"

    def model(self) -> Doc:
        """Weights, unless a step before this one left them."""
        self.folder = prepare(self.size, self.work, self.tokenizer, self.device)
        return {"parameters": sum(f.stat().st_size for f in self.folder.glob("*.safetensors")) // 2}

    def artifacts(self) -> Doc:
        """The base as stage `fetch` refers to a directory, and a data set."""
        self.config = self._config()
        job = self._job("fetch", {}, self.config.model.model_dump(mode="json"))
        execute("fetch", job)
        with self.store.create(Dataset, self.key, {}) as folder:
            longest = self.config.train.pack_length - 64
            write_synthetic(folder / "train.jsonl", ROW_TOKENS[self.size], seed=1, longest=longest)
            for name in ("val.jsonl", "test.jsonl"):
                write_synthetic(folder / name, 1000, seed=2, longest=longest // 2)
        return {}

    def finetune(self) -> Doc:
        """The stage, with one SIGTERM to the worker after step INTERRUPTED."""
        base, data = self._at(Checkpoint), self._at(Dataset)
        params = NemoTrainParams(train=self.config.train, model=self.config.model, target=self.config.target)
        refs = {
            name: {"uri": a.uri, "kind": a.kind, "digest": a.digest} for name, a in (("base", base), ("data", data))
        }
        job = self._job("train_nemo", refs, params.model_dump(mode="json"))
        command = [sys.executable, "-P", "-m", "slipway", "stage", "train_nemo", str(job)]
        progress, deadline, reported = job.parent / "progress.jsonl", time.monotonic() + self.timeout, 0
        with subprocess.Popen(command, cwd=job.parent) as stage:
            while stage.poll() is None and time.monotonic() < deadline:
                reported = self._watch(progress, reported, job.parent / "nemo")
                time.sleep(0.1)
            if stage.poll() is None:
                stage.send_signal(signal.SIGTERM)
        self._watch(progress, reported, None)
        if stage.returncode:
            raise SystemExit(
                f"finetune ended with {stage.returncode}; the end of its log:\n{tail(job.parent / 'nemo' / 'log.txt')}"
            )
        summary = self._at(Adapter).summary
        return {"training": summary} | {
            name: summary[name] for name in ("steps", "tokens_per_s", "memory_gib", "attempts")
        }

    def resumed(self) -> Doc:
        """Interrupted once, no step missing, and every learning rate is the full run's."""
        folder = self._at(Adapter).path
        lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
        recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
        expected = [learning_rate(recipe, step) for step in range(STEPS)]
        checks = {
            "two_attempts": self._at(Adapter).summary["attempts"] == 2,
            "every_step": [line["step"] for line in lines] == list(range(STEPS)),
            "schedule": all(
                math.isclose(line["lr"], lr, rel_tol=0.01) for line, lr in zip(lines, expected, strict=True)
            ),
            "finite": all(math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]) for line in lines),
        }
        figures = {
            "checks": checks,
            "loss": [round(line["loss"], 4) for line in lines],
            "lr": [line["lr"] for line in lines],
            "lr_expected": expected,
        }
        if not all(checks.values()):
            raise SystemExit(f"not as expected: {json.dumps(figures)}")
        return figures

    def quantize(self) -> Doc:
        """Merged and quantized on the way, from the command line."""
        out = self.work / f"{self.size}-nvfp4a16-{os.getpid()}"
        command = [
            sys.executable,
            "-P",
            "-m",
            "slipway",
            "quantize",
            str(self.folder),
            "--adapter",
            str(self._at(Adapter).path),
            "--format",
            "nvfp4a16",
            "--out",
            str(out),
            "--json",
        ]
        ran = subprocess.run(command, cwd=self.work, stdout=subprocess.PIPE, text=True, timeout=150, check=True)
        return {
            "quantized": json.loads(ran.stdout),
            "quantized_gb": round(sum(f.stat().st_size for f in out.iterdir()) / 1e9, 3),
        }

    def _config(self) -> Config:
        batch = ["train.global_batch=4", f"train.max_steps={STEPS}", "train.validate_every=1000", "train.epochs=50"]
        words = [
            "layers.train=train/nemo-qlora",
            "layers.model=models/llama-3.1-8b",
            *overrides(self.size, self.folder),
            *batch,
        ]
        config = load_config(ROOT / "conf", words)
        gpu = (
            {"gpus": 1, "gpu_memory_gb": torch.cuda.get_device_properties(0).total_memory / 1e9}
            if self.device == "cuda"
            else {"gpus": 0}
        )
        return config.model_copy(update={"target": TargetConfig(name="here", **gpu)})

    def _job(self, stage: str, inputs: Doc, params: Doc) -> Path:
        work = self.store.root / "work" / f"{stage}-{self.key}"
        work.mkdir(parents=True)
        job = {
            "stage": stage,
            "key": self.key,
            "inputs": inputs,
            "params": params,
            "extra": {},
            "store": str(self.store.root),
        }
        (work / "stage.json").write_text(json.dumps(job | {"cache": str(self.work / "cache")}))
        return work / "stage.json"

    def _at(self, kind: Any) -> Any:
        return load(kind, self.store.dir(kind.kind, self.key))

    def _watch(self, progress: Path, reported: int, nemo: Path | None) -> int:
        """Show the stage's new events; interrupt the worker once it has made step INTERRUPTED."""
        lines = progress.read_text().splitlines()[reported:] if progress.exists() else []
        for line in lines:
            event = json.loads(line)
            if event["event"] in ("metric", "note"):
                say(json.dumps({k: v for k, v in event.items() if k not in ("t", "event")}))
            if nemo and event["event"] == "metric" and event["step"] == INTERRUPTED:
                pid = json.loads((nemo / "process.json").read_text())["pid"]
                say(f"SIGTERM to the job's first process, {pid}")
                os.kill(pid, signal.SIGTERM)
        return reported + len(lines)


def learning_rate(recipe: Doc, step: int) -> float:
    """After 0-based `step`: linear from a tenth of the peak over the warm-up, then cosine to the least, over the full
    run."""
    top, section = recipe["optimizer"]["lr"], recipe["lr_scheduler"]
    warm, end, done = section["lr_warmup_steps"], section["lr_decay_steps"], step + 1
    if warm and done <= warm:
        return top / 10 + (top - top / 10) * done / warm
    share = (done - warm) / (end - warm)
    return section["min_lr"] + (top - section["min_lr"]) * (math.cos(math.pi * min(share, 1.0)) + 1) / 2


def tail(file: Path, lines: int = 40) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else "no log"


if __name__ == "__main__":
    main()
