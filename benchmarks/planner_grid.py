"""Training memory as the planner predicts it, as others predict it, and as NeMo AutoModel takes it: 72 points.

    python -m benchmarks.planner_grid points  --work DIR                       every point with predictions; no GPU
    python -m benchmarks.planner_grid measure --work DIR --tokenizer DIR --half 1    GPU, at most --seconds (540)
    python -m benchmarks.planner_grid measure --work DIR --tokenizer DIR --half 2
    python -m benchmarks.planner_grid table   --work DIR                       errors; no GPU

A measured point is a line of WORK/measured.jsonl, written when it ends: `measure` goes on where it was cut off, and
ends by itself. The points were not used for a formula: random weights of 8B and 1.6B ("3gb"), packs of 1,024 to
8,192, micro-batches of 1 to 4, three kinds of recomputation. A point that runs out of memory is one: whoever said
"fits" was wrong. `--peers PYTHON`: the Python that has fitcheck-llm, qmemcalc, accelerate (`peer_memory`).

The table: p50 and p95 of |predicted / measured - 1| of allocated and reserved bytes, per tool; for limits at 90, 100
and 110 % of each point's reserved bytes the false "fits" and false "does not fit".
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.finetune_model import MODELS, overrides, prepare
from benchmarks.measure import ROOT, Figures, emit, say
from slipway.config.load import Config, load_config
from slipway.config.model import ModelConfig
from slipway.config.train import TrainConfig
from slipway.planning.training_memory import memory_plan
from slipway.training.tuning.listed_settings import probe_settings
from slipway.training.tuning.setting import Result, Setting
from slipway.training.tuning.tune import TuneRequest, one_gpu, tuned_params

LENGTHS, BATCHES, RECOMPUTATION = (1024, 2048, 4096, 8192), (1, 2, 4), ("full", "selective", "none")
HALVES = {1: "8b", 2: "3gb"}
LIMIT_GB = 139.0  # of an H200: larger settings end as `oom`
MEASURED = "measured.jsonl"
NEAR = (0.9, 1.0, 1.1)


def main() -> None:
    """The command that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("points", "measure", "table"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, help="a folder with SmolLM2's tokenizer")
    parser.add_argument("--half", type=int, choices=HALVES, default=1)
    parser.add_argument("--sizes", nargs="+", choices=MODELS, default=list(HALVES.values()))
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--python", default=sys.executable, help="the Python that has NeMo")
    parser.add_argument("--peers", nargs="*", default=[sys.executable], help="Pythons that have other planners")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.what == "measure":
        measure(args)
    else:
        emit(f"planner_grid_{args.what}", table(args) if args.what == "table" else points(args))


def settings(size: str) -> list[Setting]:
    """The points of a model."""
    longest = 512 if size == "tiny" else max(LENGTHS)
    shape = itertools.product([n for n in LENGTHS if n <= longest] or [256, 512], BATCHES, RECOMPUTATION)
    return [Setting(length, batch, how) for length, batch, how in shape]


def config_of(size: str, folder: Path) -> Config:
    """The QLoRA recipe of a model of this shape on one H200."""
    layers = ["layers.model=models/llama-3.1-8b", "layers.train=train/nemo-qlora", "layers.target=targets/dgx-h100"]
    gpu = ["target.gpu_memory_gb=141", "target.reserve_gb=2"]
    return load_config(ROOT / "conf", [*layers, *gpu, *overrides(size, folder)])


def predicted(size: str, folder: Path) -> list[Figures]:
    """Each point of a model with its predicted peak, bytes."""
    config = config_of(size, folder)
    rows = []
    for setting in settings(size):
        params = tuned_params(config.train, setting, 1)
        plan = memory_plan(config.model, params, one_gpu(config.target))
        rows.append({**_point(size, setting, params, config.model), "slipway": plan.peak})
    return rows


def _point(size: str, setting: Setting, params: TrainConfig, model: ModelConfig) -> Figures:
    return {
        "size": size,
        "pack_length": setting.pack_length,
        "micro_batch": setting.micro_batch,
        "checkpointing": setting.checkpointing,
        "method": params.method,
        "rank": params.rank,
        "targets": params.targets,
        "layers": model.layers,
    }


def points(args: argparse.Namespace) -> Figures:
    """Every point with the prediction of each tool; a model directory of config.json alone is enough for all."""
    rows: list[Figures] = []
    asked: Figures = {}
    for size in args.sizes:
        folder = _described(size, args.work)
        of_size = predicted(size, folder)
        for python in args.peers:
            asked |= {f"{tool}": "asked" for tool in _peers(python, folder, of_size)}
        rows += of_size
    return {"points": rows, "tools": ["slipway", *asked]}


def measure(args: argparse.Namespace) -> None:
    """Probe the points of one half that no line has yet, until the time is up."""
    size, until = HALVES[args.half], time.monotonic() + args.seconds
    folder = prepare(size, args.work, args.tokenizer, "cuda")
    file = args.work / MEASURED
    there = {_name(row) for row in _lines(file)}
    left = [one for one in settings(size) if (size, one.pack_length, one.micro_batch, one.checkpointing) not in there]
    work = args.work / f"probes-{int(time.time())}"
    work.mkdir()
    request = TuneRequest(config_of(size, folder), folder, work, budget_s=args.seconds, here=True, python=args.python)

    def keep(result: Result) -> None:
        one = result.setting
        row = {"size": size, "pack_length": one.pack_length, "micro_batch": one.micro_batch}
        row |= {"checkpointing": one.checkpointing, "status": result.status, "reason": result.reason}
        row |= {"allocated": result.allocated, "reserved": result.reserved, "tokens_per_s": result.tokens_per_s}
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        say(f"{one}: {result.status}, {result.reserved / 1e9:.2f} GB")

    probe_settings(request, left, LIMIT_GB * 1e9, until, keep)
    say(f"{len(_lines(file))} of {sum(len(settings(one)) for one in HALVES.values())} points are there")


def table(args: argparse.Namespace) -> Figures:
    """Errors of every tool over the measured points."""
    rows = {_name(row): row for row in _lines(args.work / MEASURED)}
    planned = points(args)
    both = [(one, rows[_name(one)]) for one in planned["points"] if _name(one) in rows]
    well = [(one, row) for one, row in both if row["status"] in ("ok", "slower")]
    result: Figures = {"measured": len(both), "ran": len(well)}
    for tool in planned["tools"]:
        pairs = [(one[tool], row) for one, row in well if one.get(tool)]
        errors = {
            kind: sorted(abs(value / row[kind] - 1) for value, row in pairs if row[kind])
            for kind in ("allocated", "reserved")
        }
        result[tool] = {
            kind: {"n": len(off), "p50": _quantile(off, 0.5), "p95": _quantile(off, 0.95)}
            for kind, off in errors.items()
            if off
        } | _verdicts(tool, both)
    return result


def _verdicts(tool: str, both: list[tuple[Figures, Figures]]) -> Figures:
    """False answers at limits near what each point took, and at the machine's for those that did not run."""
    fits = wrong_fits = wrong_refusals = 0
    for one, row in both:
        value = one.get(tool)
        if not value:
            continue
        if row["status"] == "oom":
            fits, wrong_fits = fits + 1, wrong_fits + (value <= LIMIT_GB * 1e9)
            continue
        for share in NEAR:
            limit = share * row["reserved"]
            fits += 1
            wrong_fits += value <= limit < row["reserved"]
            wrong_refusals += value > limit >= row["reserved"]
    return {"answers": fits, "false_fits": wrong_fits, "false_refusals": wrong_refusals}


def _peers(python: str, folder: Path, rows: list[Figures]) -> list[str]:
    """Add the bytes that other tools say to each row; the tools that answered."""
    command = [python, str(ROOT / "benchmarks/peer_memory.py"), str(folder)]
    asked = subprocess.run(command, input=json.dumps(rows), capture_output=True, text=True, check=False)
    if asked.returncode:
        say(f"{python}: {asked.stderr.strip().splitlines()[-1:]}")
        return []
    document = json.loads(asked.stdout.splitlines()[-1])
    answered = [tool for tool, values in document.items() if isinstance(values, list)]
    for tool in answered:
        for row, value in zip(rows, document[tool], strict=True):
            row[tool] = value
    return answered


def _described(size: str, work: Path) -> Path:
    """A model directory of config.json alone, where the model was not made; the one with weights where it was."""
    if (work / size / "config.json").exists():
        return work / size
    folder = work / f"{size}-config"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(MODELS[size].config(), indent=1))
    return folder


def _lines(file: Path) -> list[Figures]:
    """Whole lines of a file; a last one that was cut off is measured again."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            rows.append(dict(json.loads(line)))
        except ValueError:
            continue
    return rows


def _name(row: Figures) -> tuple[Any, ...]:
    return row["size"], row["pack_length"], row["micro_batch"], row["checkpointing"]


def _quantile(ordered: list[float], share: float) -> float:
    return round(ordered[max(0, -int(-share * len(ordered) // 1) - 1)], 4)


if __name__ == "__main__":
    main()
