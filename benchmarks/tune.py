"""`slipway tune` on a random 8B, and the untuned recipe beside the tuned one through NeMo's own entry point.

`python -m benchmarks.tune --work DIR --tokenizer DIR`, some 8 minutes on an H100, of which tuning at most `--budget-s`.

`tune` is the search's own report: the untuned recipe (packs of 2048, full recompute) is its first probe. `entry_point`
runs both recipes as a user would (`automodel recipe.yaml --nproc-per-node 1`), the same data, as many tokens a step:
tokens a second as NeMo logs them, median of the steps after the first two, and the largest memory it logs. The gain
there is what tuning is worth.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.finetune_model import MODELS, overrides, prepare
from benchmarks.measure import ROOT, Figures, emit, say
from slipway.config.load import load_config
from slipway.config.train import TrainConfig
from slipway.training.nemo.log import TrainingLog
from slipway.training.nemo.recipe import RecipePaths, render, to_yaml
from slipway.training.nemo.schema import check_recipe
from slipway.training.tuning.tune import one_gpu

BASELINES_A_STEP = 4  # a step of the confirming runs: as many tokens as this many packs of the untuned recipe
STEPS = 7


def main() -> None:
    """Prepare the model, tune it, confirm the gain through NeMo's entry point, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, required=True, help="everything is written here; the model stays for the next run"
    )
    parser.add_argument("--tokenizer", type=Path, required=True, help="a folder with SmolLM2's tokenizer")
    parser.add_argument("--size", choices=MODELS, default="8b")
    parser.add_argument("--target", default="dgx-h100", help="whose memory is the limit")
    parser.add_argument("--budget-s", type=float, default=300.0)
    parser.add_argument("--python", default=sys.executable, help="the Python that has NeMo")
    parser.add_argument("--confirm-s", type=float, default=100.0, help="time limit of each confirming run; 0: none")
    args = parser.parse_args()
    emit(f"tune_{args.size}", Bench(args).figures())


class Bench:
    """One invocation."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._work = args, args.work.resolve()
        self._folder = prepare(args.size, self._work, args.tokenizer, "cuda" if torch.cuda.is_available() else "cpu")
        say("the model is there")
        layers = [
            "layers.model=models/llama-3.1-8b",
            "layers.train=train/nemo-qlora",
            f"layers.target=targets/{args.target}",
        ]
        self._config = load_config(ROOT / "conf", [*layers, *overrides(args.size, self._folder)])

    def figures(self) -> Figures:
        """The search's report, and both recipes through the entry point with the gain between them."""
        tuned = self._tune()
        best = {
            k: tuned["best"][k] for k in ("pack_length", "micro_batch", "activation_checkpointing", "attention", "loss")
        }
        runs: Figures = {}
        for name, changes in {"tuned": best, "untuned": {}}.items() if self._args.confirm_s else ():
            runs[name] = self._run(name, self._config.train.model_copy(update=changes))
            say(f"{name} through the entry point: {runs[name]}")
            keep("tune", {"tune": tuned, "entry_point": runs})
        if all(runs.get(name, {}).get("tokens_per_s") for name in ("tuned", "untuned")):
            runs["gain"] = round(runs["tuned"]["tokens_per_s"] / runs["untuned"]["tokens_per_s"], 3)
        return {"size": self._args.size, "tune": tuned, "entry_point": runs}

    def _tune(self) -> Figures:
        args = self._args
        command = [
            sys.executable,
            "-P",
            "-m",
            "slipway",
            "tune",
            "--model",
            "llama-3.1-8b",
            "--method",
            "qlora",
            "--target",
            args.target,
            "--here",
            "--model-dir",
            str(self._folder),
            "--work",
            str(self._work / "tune"),
            "--out",
            str(self._work / "tuned.yaml"),
            "--python",
            args.python,
            "--budget-s",
            str(args.budget_s),
            "--conf",
            str(ROOT / "conf"),
            "--json",
            *overrides(args.size, self._folder),
        ]
        start = time.monotonic()
        ran = subprocess.run(command, cwd=self._work, stdout=subprocess.PIPE, text=True, timeout=args.budget_s + 90)
        if ran.returncode:
            log = self._work / "tune" / "log.txt"
            raise SystemExit(
                f"slipway tune ended with {ran.returncode}: "
                f"{ran.stdout}\n{log.read_text()[-3000:] if log.exists() else ''}"
            )
        report: dict[str, Any] = json.loads(ran.stdout)
        keep("tune", {"tune": report | {"command_s": round(time.monotonic() - start, 1)}})
        return report | {"command_s": round(time.monotonic() - start, 1)}

    def _run(self, name: str, params: TrainConfig) -> Figures:
        """STEPS steps of a recipe in a process of its own."""
        work = self._work / f"run-{name}-{os.getpid()}"
        work.mkdir()
        tokens = BASELINES_A_STEP * self._config.train.pack_length
        batch = params.micro_batch * max(1, round(tokens / params.pack_length / params.micro_batch))
        paths = RecipePaths(str(self._folder), str(self._work / "tune" / "train.jsonl"), None, str(work / "ckpt"))
        changed = params.model_copy(update={"global_batch": batch, "epochs": 50.0})
        recipe = render(self._config.model, changed, one_gpu(self._config.target), paths, steps=STEPS)
        check_recipe(recipe)
        (work / "recipe.yaml").write_text(to_yaml(recipe))
        start = time.monotonic()
        with (work / "log.txt").open("wb") as log:
            command = ["automodel", str(work / "recipe.yaml"), "--nproc-per-node", "1"]
            try:
                code = subprocess.run(
                    command, cwd=work, stdout=log, stderr=log, timeout=self._args.confirm_s
                ).returncode
            except subprocess.TimeoutExpired:
                code = -1
        log_of_run = TrainingLog(work / "ckpt" / "training.jsonl", work / "log.txt")
        log_of_run.new_steps()
        steps = log_of_run.history()
        if len(steps) < 4:
            return {"code": code, "steps": len(steps), "log": (work / "log.txt").read_text(errors="replace")[-1500:]}
        return {
            "tokens_per_s": round(statistics.median(s["tps"] for s in steps[2:])),
            "allocated_gib": max(s["mem"] for s in steps),
            "steps": len(steps),
            "code": code,
            "seconds": round(time.monotonic() - start, 1),
        }


def keep(name: str, figures: Figures) -> None:
    """What is known so far survives a machine that is taken away."""
    if out := os.environ.get("OUT"):
        (Path(out) / f"{name}.partial.json").write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
