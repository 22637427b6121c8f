"""The one container, Slurm job or process that runs NVIDIA's own entry point on a rendered recipe.

    work/job/       recipe.yaml, start.py, preflight.json,     /job, read-only
                    labelled_rows.py, rows/{train,val}/
    work/ckpt/      checkpoints and training.jsonl             /ckpt
    work/log.txt    the job's output
    base model      the checkpoint artifact                    /models/<name>, read-only

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
from slipway.runners.base import ALLOCATOR, OFFLINE, Job, Mount
from slipway.store.artifacts import Checkpoint, Dataset
from slipway.system.files import write_atomic
from slipway.training.nemo.labelled_rows import TOKENS
from slipway.training.nemo.params import STOP_S, NemoTrainParams
from slipway.training.nemo.recipe import RecipePaths
from slipway.weights.external import SOURCE

RECIPE, START, PREFLIGHT = "recipe.yaml", "start.py", "preflight.json"
ROWS, READER_FILE = "rows", "labelled_rows.py"
# Output by the line, so that steps show when they are made; tokenizers' own threads do not survive a fork.
QUIET = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
# Bytes of a checkpoint per trained parameter: the weight and two moments of AdamW, in fp32.
CHECKPOINT_BYTES = 12


@dataclass(frozen=True)
class JobFiles:
    """Base model, data and work folder of one training, on this machine and as the job sees them."""

    base: Checkpoint
    data: Dataset
    work: Path
    params: NemoTrainParams

    @property
    def checkpoints(self) -> Path:
        """The folder for checkpoints and `training.jsonl`, on this machine."""
        return self.work / "ckpt"

    @property
    def job(self) -> Path:
        """The folder of recipe, launcher and preflight, on this machine."""
        return self.work / "job"

    def paths(self) -> RecipePaths:
        """Model, data and checkpoints as the job sees them, which is how the recipe names them."""
        inside = self.params.target.in_container
        model = f"/models/{self.params.model.name}" if inside else str(self.base.path)
        job = "/job" if inside else str(self.job)
        checkpoints = "/ckpt" if inside else str(self.checkpoints)
        held_out = self.data.path / "val.jsonl"
        validated = held_out.exists() and held_out.stat().st_size > 0
        train, validation = (f"{job}/{ROWS}/{name}" for name in ("train", "val"))
        return RecipePaths(model, train, validation if validated else None, checkpoints, f"{job}/{READER_FILE}")

    def mounts(self) -> tuple[Mount, ...]:
        """What a container must see, and where; nothing without a container. Only the checkpoints may be written."""
        if not self.params.target.in_container:
            return ()
        return (
            Mount(self.base.path, f"/models/{self.params.model.name}"),
            *(Mount(folder, str(folder)) for folder in linked_folders(self.base.path)),
            Mount(self.job, "/job"),
            Mount(self.checkpoints, "/ckpt", read_only=False),
        )


def linked_folders(base: Path) -> list[Path]:
    """Folders outside `base` that its links lead to, at each hop. A link holds a path of this machine, so a container
    must see each of them at the same path. Empty for a model that was copied."""
    folders = set()
    for file in base.iterdir() if (base / SOURCE).exists() else ():
        hop = file
        while hop.is_symlink():
            hop = hop.parent / hop.readlink()
            folders.add(hop.parent.resolve())
    return sorted(folders - {base.resolve()})


def write_job(files: JobFiles, recipe: str) -> Job:
    """Write recipe, launcher, preflight and the rows' reader into the job's folder and return the job that runs them.

    The job's name holds the stage's key, so the next process that runs this stage adopts a job that still runs.
    """
    params = files.params
    for folder in (files.job, files.checkpoints):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(files.job / RECIPE, recipe)
    for name, module in ((START, "launcher.py"), (READER_FILE, "labelled_rows.py")):
        source = resources.files("slipway.training.nemo").joinpath(module).read_text(encoding="utf-8")
        write_atomic(files.job / name, source)
    write_atomic(files.job / PREFLIGHT, json.dumps(_preflight(files)) + "\n")
    inside = params.target.in_container
    folder_in_job = "/job" if inside else str(files.job)
    processes = max(1, params.target.gpus)
    python = sys.executable if isinstance(params.target.runner, LocalRunConfig) else "python3"
    start = (python, f"{folder_in_job}/{START}", "--")
    name = f"slipway-{files.work.parent.name}"
    return Job(
        name=name,
        argv=(*start, "automodel", f"{folder_in_job}/{RECIPE}", "--nproc-per-node", str(processes)),
        work=files.work,
        env={**OFFLINE, **QUIET, **ALLOCATOR},
        mounts=files.mounts(),
        labels={"slipway.run": files.work.parent.name, "slipway.stage": "train_nemo"},
        processes=processes,
        stop_s=STOP_S,
    )


def _preflight(files: JobFiles) -> dict[str, object]:
    """What the launcher checks on the job's machine before the model loads."""
    paths, params = files.paths(), files.params
    keep = params.train.keep_checkpoints + 2  # the best, and the one being written
    whole = params.train.method == "sft"
    trained = params.model.parameters_b * 1e9 if whole else adapter_parameters(params.model, params.train)
    needed = keep * CHECKPOINT_BYTES * trained
    return {
        "gpus": params.target.gpus,
        "read": [f"{paths.model}/config.json", f"{paths.train}/{TOKENS}"],
        "write": {"checkpoints": paths.checkpoints, "free_bytes": int(needed)},
    }
