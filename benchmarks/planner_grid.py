"""Training memory as the planner predicts it, as others predict it, and as NeMo AutoModel takes it: 48 points, and
60 trainings within limits near what was predicted.

    python -m benchmarks.planner_grid points  --work DIR                       every point with predictions; no GPU
    python -m benchmarks.planner_grid measure --work DIR --tokenizer DIR --half 1    GPU, at most --seconds (540)
    python -m benchmarks.planner_grid measure --work DIR --tokenizer DIR --half 2
    python -m benchmarks.planner_grid limits  --work DIR --tokenizer DIR --half 1    likewise, 2 too
    python -m benchmarks.planner_grid table   --work DIR                       errors; no GPU

A measured point is a line of WORK/measured.jsonl or WORK/limits.jsonl, written when it ends: a command goes on where
it was cut off, and ends by itself. No point was used for a formula (packs of 2,048, 4,096 and 8,192 were): random
weights of 8B and 1.6B ("3gb"), micro-batches of 1 to 5, three kinds of recomputation. `--peers PYTHON`: the Python
that has fitcheck-llm, qmemcalc, accelerate (`peer_memory`).

`limits`: each training may take a share of 0.92 to 1.05 of what it is said to need, or twice that, which PyTorch
enforces, and runs or dies. A planner that says "fits" of one that dies said a false "fits". The table: p50 and p95 of
|predicted / measured - 1| of allocated and reserved bytes, and the false answers, per tool.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Sequence
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

LENGTHS, BATCHES, RECOMPUTATION = (3072, 6144), (1, 2, 3, 5), ("full", "selective", "none")
LIMITED_LENGTHS, LIMITED_BATCHES = (2304, 3584, 7168), (1, 2)
SHARES = (
    0.92,
    0.96,
    0.98,
    0.99,
    1.0,
    1.005,
    1.01,
    1.05,
    2.0,
    2.0,
)  # of what is said to be needed; twice that is no limit
HALVES = {1: "8b", 2: "3gb"}
LIMIT_GB = 139.0  # of an H200: larger settings end as `oom`
MEASURED, LIMITED = "measured.jsonl", "limits.jsonl"


def main() -> None:
    """The command that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("points", "measure", "limits", "table"))
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
    elif args.what == "limits":
        limits(args)
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


def limited() -> list[tuple[Setting, float]]:
    """Settings of a model, each with the share of its predicted peak that it may take."""
    shapes = itertools.cycle(itertools.product(LIMITED_LENGTHS, LIMITED_BATCHES))
    return [(Setting(*next(shapes), how), share) for how in RECOMPUTATION for share in SHARES]


def predicted(size: str, folder: Path, wanted: Sequence[Setting]) -> list[Figures]:
    """Each setting of a model with its predicted peak, bytes."""
    config = config_of(size, folder)
    rows = []
    for setting in wanted:
        params = tuned_params(config.train, setting, 1)
        plan = memory_plan(config.model, params, one_gpu(config.target))
        bytes_ = {"slipway": plan.peak, "slipway_reserved": plan.reserved, "slipway_needed": plan.needed}
        rows.append({**_point(size, setting, params, config.model), **bytes_})
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
    within: list[Figures] = []
    tools: dict[str, None] = {"slipway": None}
    recorded = _lines(args.work / LIMITED)
    for size in args.sizes:
        folder = _described(size, args.work)
        of_size = predicted(size, folder, settings(size))
        tried = [(_setting(row), row) for row in recorded if row["size"] == size]
        tried = tried or [(setting, {"share": share}) for setting, share in limited()]
        of_limits = predicted(size, folder, [setting for setting, _ in tried])
        for row, (_, more) in zip(of_limits, tried, strict=True):
            share = more.get("share", 1.0)
            row |= {"limit": more.get("limit", share * row["slipway_needed"]), "status": more.get("status")}
        for python in args.peers:
            tools |= dict.fromkeys(_peers(python, folder, [*of_size, *of_limits]))
        rows, within = rows + of_size, within + of_limits
    return {"points": rows, "limited": within, "tools": list(tools)}


def _setting(row: Figures) -> Setting:
    return Setting(row["pack_length"], row["micro_batch"], row["checkpointing"])


def measure(args: argparse.Namespace) -> None:
    """Probe the points of one half that no line has yet, until the time is up."""
    size = HALVES[args.half]
    there = {_name(row) for row in _lines(args.work / MEASURED)}
    left = [one for one in settings(size) if (size, one.pack_length, one.micro_batch, one.checkpointing) not in there]
    _probe(args, size, args.work / MEASURED, left, [])


def limits(args: argparse.Namespace) -> None:
    """Run the trainings of one half within their limits, those that no line has yet, until the time is up."""
    size = HALVES[args.half]
    there = {(*_name(row), row["limit"]) for row in _lines(args.work / LIMITED)}
    rows = predicted(size, _described(size, args.work), [setting for setting, _ in limited()])
    pairs = [(one, int(share * row["slipway_needed"])) for (one, share), row in zip(limited(), rows, strict=True)]
    left = [
        (one, most)
        for one, most in pairs
        if (size, one.pack_length, one.micro_batch, one.checkpointing, most) not in there
    ]
    _probe(args, size, args.work / LIMITED, [one for one, _ in left], [most for _, most in left])


def _probe(args: argparse.Namespace, size: str, file: Path, left: list[Setting], most: list[int]) -> None:
    """Probe settings, within `most` bytes each where it is not empty; a line of the file for each."""
    until = time.monotonic() + args.seconds
    folder = prepare(size, args.work, args.tokenizer, "cuda")
    work = args.work / f"probes-{int(time.time())}"
    work.mkdir()
    request = TuneRequest(config_of(size, folder), folder, work, budget_s=args.seconds, here=True, python=args.python)
    within = iter(most)

    def keep(result: Result) -> None:
        one = result.setting
        row = {"size": size, "pack_length": one.pack_length, "micro_batch": one.micro_batch}
        row |= {"checkpointing": one.checkpointing, "status": result.status, "reason": result.reason}
        row |= {"allocated": result.allocated, "reserved": result.reserved, "tokens_per_s": result.tokens_per_s}
        row |= {"limit": next(within)} if most else {}
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        within_words = f" of {row['limit'] / 1e9:.2f}" if most else ""
        say(f"{one}: {result.status}, {result.reserved / 1e9:.2f}{within_words} GB")

    probe_settings(request, left, LIMIT_GB * 1e9, until, keep, most)
    say(f"{len(_lines(file))} points are there")


def table(args: argparse.Namespace) -> Figures:
    """Errors of every tool over the measured points."""
    rows = {_name(row): row for row in _lines(args.work / MEASURED)}
    planned = points(args)
    ran = [(one, rows[_name(one)]) for one in planned["points"] if _name(one) in rows]
    ran = [(one, row) for one, row in ran if row["status"] in ("ok", "slower")]
    tried = [(one, one["status"]) for one in planned["limited"] if one["status"] in ("ok", "slower", "oom")]
    result: Figures = {"ran": len(ran)}
    for tool in planned["tools"]:
        pairs = [(one, row) for one, row in ran if one.get(tool)]
        errors = {
            kind: sorted(abs(one.get(f"{tool}_{kind}", one[tool]) / row[kind] - 1) for one, row in pairs if row[kind])
            for kind in ("allocated", "reserved")
        }
        result[tool] = {
            kind: {"n": len(off), "p50": _quantile(off, 0.5), "p95": _quantile(off, 0.95)}
            for kind, off in errors.items()
            if off
        } | _verdicts(tool, tried)
    return result


def _verdicts(tool: str, tried: list[tuple[Figures, str]]) -> Figures:
    """False answers about trainings within limits that ran or died."""
    needed = f"{tool}_needed"  # of a tool that tells it from the peak
    answers = [(one.get(needed, one[tool]) <= one["limit"], status != "oom") for one, status in tried if one.get(tool)]
    return {
        "answers": len(answers),
        "false_fits": sum(says and not runs for says, runs in answers),
        "false_refusals": sum(runs and not says for says, runs in answers),
    }


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
