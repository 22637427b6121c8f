"""The one container, Slurm job or process that runs NVIDIA's own entry point on a rendered recipe.

    work/job/       recipe.yaml, start.py, preflight.json      /job, read-only
    work/ckpt/      checkpoints and training.jsonl             /ckpt
    work/log.txt    the job's output
    base model      the checkpoint artifact                    /models/<name>, read-only
    data            the dataset artifact                       /data, read-only

Without a container the job sees the same files at their own paths.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from slipway.config.target import LocalRunConfig
from slipway.planning.training_memory import adapter_parameters
from slipway.runners.base import Job, Mount
from slipway.store.artifacts import Checkpoint, Dataset
from slipway.system.files import write_atomic
from slipway.training.nemo.params import STOP_S, NemoTrainParams
from slipway.training.nemo.recipe import RecipePaths
from slipway.weights.external import SOURCE

RECIPE, START, PREFLIGHT = "recipe.yaml", "start.py", "preflight.json"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
# Output by the line, so that steps are seen when they are made; tokenizers' own threads do not survive a fork.
QUIET = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
# Bytes of a checkpoint per trained parameter: the weight and two moments of AdamW, in fp32.
CHECKPOINT_BYTES = 12


@dataclass(frozen=True)
class JobFiles:
    """Where everything is, here and as the job sees it."""

    base: Checkpoint
    data: Dataset
    work: Path
    params: NemoTrainParams

    @property
    def checkpoints(self) -> Path:
        return self.work / "ckpt"

    @property
    def job(self) -> Path:
        return self.work / "job"

    def paths(self) -> RecipePaths:
        """As the recipe names them."""
        inside = self.params.target.in_container
        model = f"/models/{self.params.model.name}" if inside else str(self.base.path)
        data = "/data" if inside else str(self.data.path)
        checkpoints = "/ckpt" if inside else str(self.checkpoints)
        held_out = self.data.path / "val.jsonl"
        validated = held_out.exists() and held_out.stat().st_size > 0
        return RecipePaths(model, f"{data}/train.jsonl", f"{data}/val.jsonl" if validated else None, checkpoints)

    def mounts(self) -> tuple[Mount, ...]:
        if not self.params.target.in_container:
            return ()
        return (
            Mount(self.base.path, f"/models/{self.params.model.name}"),
            *(Mount(folder, str(folder)) for folder in linked_folders(self.base.path)),
            Mount(self.data.path, "/data"),
            Mount(self.job, "/job"),
            Mount(self.checkpoints, "/ckpt", read_only=False),
        )


def linked_folders(base: Path) -> list[Path]:
    """Folders outside `base` that its links lead to, at each hop: a container must see them at the same path."""
    folders = set()
    for file in base.iterdir() if (base / SOURCE).exists() else ():
        hop = file
        while hop.is_symlink():
            hop = hop.parent / hop.readlink()
            folders.add(hop.parent.resolve())
    return sorted(folders - {base.resolve()})


def write_job(files: JobFiles, recipe: str) -> Job:
    """Write the job's files and describe it. Its name is the stage key's, so whoever runs this stage finds it again."""
    params = files.params
    for folder in (files.job, files.checkpoints):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(files.job / RECIPE, recipe)
    write_atomic(files.job / START, resources.files("slipway.training.nemo").joinpath("launcher.py").read_text())
    write_atomic(files.job / PREFLIGHT, json.dumps(_preflight(files)) + "\n")
    inside = params.target.in_container
    seen = "/job" if inside else str(files.job)
    processes = max(1, params.target.gpus)
    python = sys.executable if isinstance(params.target.runner, LocalRunConfig) else "python3"
    start = (python, f"{seen}/{START}", "--")
    name = f"slipway-{files.work.parent.name}"
    return Job(
        name=name,
        argv=(*start, "automodel", f"{seen}/{RECIPE}", "--nproc-per-node", str(processes)),
        work=files.work,
        env={**OFFLINE, **QUIET},
        mounts=files.mounts(),
        labels={"slipway.run": files.work.parent.name, "slipway.stage": "train_nemo"},
        processes=processes,
        stop_s=STOP_S,
    )


def _preflight(files: JobFiles) -> dict[str, object]:
    paths, params = files.paths(), files.params
    keep = params.train.keep_checkpoints + 2  # the best, and the one being written
    needed = keep * CHECKPOINT_BYTES * adapter_parameters(params.model, params.train)
    return {
        "gpus": params.target.gpus,
        "read": [f"{paths.model}/config.json", paths.train],
        "write": {"checkpoints": paths.checkpoints, "free_bytes": int(needed)},
    }
