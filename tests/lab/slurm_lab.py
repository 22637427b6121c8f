"""The lab's Slurm for tests: up once a session, an image of the lab's trainer in it, runners and jobs for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from slipway.config.image import ImageConfig
from slipway.config.target import SlurmConfig, TargetConfig
from slipway.runners.base import Job, Mount, Outcome
from slipway.runners.slurm import SlurmRunner
from slipway.runners.slurm_script import container_uri
from tests.lab.trainer_run import TRAINER, steps_logged, write_recipe, write_rows

SCRIPTS = Path(__file__).parents[2] / "infra" / "lab" / "slurm"
IMAGE = ImageConfig(repository="registry.lab:5000/lab/trainer", tag="1", digests={"amd64": "sha256:" + "a" * 64})
# python with what the trainer needs, and the trainer; nothing else of this machine is in the image
ROOT = [
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    sys.base_prefix,
    sys.prefix,
    str(TRAINER),
]


@dataclass(frozen=True)
class SlurmLab:
    """A running Slurm of two nodes; `folder` holds its state."""

    folder: Path

    def part(self, name: str, what: str) -> None:
        """Start, stop or kill one daemon."""
        subprocess.run([SCRIPTS / "part", name, what], check=True, timeout=60)

    def ask(self, *argv: str) -> str:
        """Output of a Slurm command."""
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=300).stdout.strip()

    def job_ids(self, name: str) -> list[str]:
        """Ids of every job whose name starts with `name`, waiting, running or ended."""
        lines = self.ask("squeue", "--noheader", "--states=all", "--format=%A %j").splitlines()
        return [line.split()[0] for line in lines if line.split()[1].startswith(f"{name}.")]

    def runner(self, nodes: int = 1, container: bool = True, gpus: int = 0, **more: Any) -> SlurmRunner:
        """A Slurm runner on the lab's controller, with short leases and polls."""
        params: dict[str, Any] = {
            "kind": "slurm",
            "container": container,
            "poll_s": 0.25,
            "lease_s": 6,
            "patience_s": 60,
            **more,
        }
        target = TargetConfig(name="lab", nodes=nodes, gpus=gpus, gpu_memory_gb=1 if gpus else None)
        return SlurmRunner(SlurmConfig(**params), target, IMAGE)


@dataclass
class Work:
    """A training job of the lab's trainer in a folder of its own, as stage `train_nemo` lays it out."""

    root: Path
    name: str
    max_steps: int = 12
    every: int = 4
    step_s: float = 0.05
    save_s: float = 0.0
    stop_s: float = 10.0
    env: dict[str, str] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        """Where the trainer writes checkpoints, on this machine."""
        return self.root / self.name / "ckpt"

    def job(self, argv: tuple[str, ...] | None = None, **more: str) -> Job:
        """The job in a container, its files written; `more` is added to its environment."""
        work = self.root / self.name
        for folder in ("ckpt", "job", "data"):
            (work / folder).mkdir(parents=True, exist_ok=True)
        if not (work / "job" / "recipe.yaml").exists():
            write_rows(work / "data" / "train.jsonl")
            write_recipe(
                work / "job" / "recipe.yaml", "/ckpt", "/data/train.jsonl", max_steps=self.max_steps, every=self.every
            )
        env = {
            "TRAINER_STEP_S": str(self.step_s),
            "TRAINER_SAVE_S": str(self.save_s),
            "TRAINER_BUFFER": "1",
            "OMP_NUM_THREADS": "1",
        }
        mounts = (
            Mount(work / "data", "/data"),
            Mount(work / "job", "/job"),
            Mount(self.checkpoints, "/ckpt", read_only=False),
        )
        argv = argv or ("automodel", "/job/recipe.yaml", "--nproc-per-node", "1")
        labels = {"slipway.run": "lab", "slipway.stage": "train_nemo"}
        return Job(self.name, argv, work, {**env, **self.env, **more}, mounts, labels, stop_s=self.stop_s)

    def outside(self, argv: tuple[str, ...] | None = None) -> Job:
        """The same job without a container: host paths, and the trainer on PATH."""
        job = self.job()
        recipe = job.work / "job" / "recipe.yaml"
        recipe.write_text(
            recipe.read_text().replace("/ckpt", str(self.checkpoints)).replace("/data/", f"{job.work}/data/")
        )
        path = f"{TRAINER}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return replace(
            job,
            argv=argv or ("automodel", str(recipe), "--nproc-per-node", "1"),
            mounts=(),
            env={**job.env, "PATH": path},
        )

    def steps(self) -> list[int]:
        """Steps that training.jsonl holds, in the order of its lines."""
        return steps_logged(self.checkpoints) if (self.checkpoints / "training.jsonl").exists() else []

    def finished(self) -> bool:
        """The last step's checkpoint is there and complete."""
        last = self.checkpoints / "LATEST"
        return last.resolve().name.endswith(f"_step_{self.max_steps - 1}") and not (last / ".incomplete").exists()


def wait_for(what: Callable[[], Any], seconds: float = 300.0) -> Any:
    """`what()` as soon as it is true."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain"
        time.sleep(0.1)
    return value


def ended(runner: SlurmRunner, job: Job, seconds: float = 300.0) -> Outcome:
    """How the job ends, polled as a caller does."""
    end = time.monotonic() + seconds
    while (outcome := runner.poll(job)) is None:
        assert time.monotonic() < end, f"{_shown(job)}\n{job.log.read_text() if job.log.exists() else 'no log'}"
        time.sleep(0.1)
    return outcome


def _shown(job: Job) -> str:
    return subprocess.run(
        ["scontrol", "show", "job", slurm_id(job)], capture_output=True, text=True, timeout=300
    ).stdout


def slurm_id(job: Job) -> str:
    """The Slurm job id that the runner recorded for a job."""
    return str(json.loads((job.work / "slurm.json").read_text())["job_id"])


@pytest.fixture(scope="session")
def slurm_lab() -> Iterator[SlurmLab]:
    """Started with infra/lab/slurm/up and ended with down; a machine that cannot have it reports that by name."""
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, pytest.MonkeyPatch.context() as patch:
        lab = Path(folder) / "lab"
        patch.setenv("SLIPWAY_LAB_SLURM", str(lab))
        patch.setenv("SLURM_CONF", str(lab / "slurm.conf"))
        try:
            started = subprocess.run([SCRIPTS / "up"], capture_output=True, text=True, timeout=400)
            if started.returncode == 4:
                pytest.skip(f"lab slurm: not run: {started.stderr.strip()}")
            assert started.returncode == 0, started.stderr
            write_image(lab)
            yield SlurmLab(lab)
        finally:
            subprocess.run([SCRIPTS / "down"], check=True, timeout=120)


def write_image(lab: Path) -> None:
    """The trainer's image in the lab's form: host folders that make up its root, and its environment."""
    image = lab / "images" / container_uri(IMAGE, "amd64").translate(str.maketrans("/#:", "+++"))
    image.mkdir(parents=True, exist_ok=True)
    (image / "binds").write_text("".join(f"{p}\n" for p in ROOT if Path(p).exists()))
    path = f"{TRAINER}:{Path(sys.executable).parent}:/usr/bin:/bin"
    (image / "environment").write_text(f"PATH={path}\nPYTHONPATH={TRAINER}\n")
