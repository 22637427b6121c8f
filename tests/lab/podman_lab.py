"""The container lab as a fixture: podman's Docker API, two registries, and the trainer's image, up once a session
(infra/lab/podman)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slipway.config.image import ImageConfig
from slipway.config.target import DockerConfig, TargetConfig
from slipway.containers.images import read_digests
from slipway.runners.base import Job, Mount
from slipway.runners.docker import DockerRunner
from tests.lab.trainer_run import write_recipe, write_rows

INFRA = Path(__file__).resolve().parents[2] / "infra" / "lab"


@dataclass(frozen=True)
class PodmanLab:
    """A container engine with a registry of its own, which holds the lab's training image; `env` names both to their
    clients."""

    folder: Path
    env: dict[str, str]
    image: ImageConfig

    @property
    def host(self) -> str:
        """The engine's socket, as DOCKER_HOST has it."""
        return self.env["DOCKER_HOST"]

    @property
    def registry(self) -> str:
        """Host and port of the registry."""
        return self.env["LAB_REGISTRY"]

    @property
    def arch(self) -> str:
        """This machine's architecture, as registries call it."""
        return "arm64" if os.uname().machine == "aarch64" else "amd64"

    def target(self, host: str | None = None, **more: Any) -> TargetConfig:
        """A target that trains in this engine, or in the one at `host`."""
        return TargetConfig(
            name="lab", arch=self.arch, runner=DockerConfig(kind="docker", host=host or self.host), **more
        )

    def runner(self, host: str | None = None, **more: Any) -> DockerRunner:
        """A docker runner on the lab's engine, or on the one at `host`."""
        target = self.target(host)
        return DockerRunner(target.runner, target, self.image, **more)

    def engine(self, what: str) -> None:
        """`start` or `stop` (killed at once); containers live on."""
        subprocess.run([INFRA / "podman" / "engine", self.folder, what], check=True)

    def podman(self, *argv: str) -> str:
        """Output of a podman command in the lab's engine."""
        return subprocess.run(["podman", *argv], env=self.env, capture_output=True, text=True, check=True).stdout

    def training(self, work: Path, name: str, *, max_steps: int = 12, step_s: float = 0.0, **env: str) -> Job:
        """A job of the trainer as the stage `train_nemo` describes one: its recipe, data and checkpoints mounted."""
        for folder in ("job", "data", "ckpt"):
            (work / folder).mkdir(parents=True, exist_ok=True)
        write_recipe(work / "job" / "recipe.yaml", "/ckpt", "/data/train.jsonl", max_steps=max_steps)
        write_rows(work / "data" / "train.jsonl")
        mounts = (
            Mount(work / "job", "/job"),
            Mount(work / "data", "/data"),
            Mount(work / "ckpt", "/ckpt", read_only=False),
        )
        return Job(
            name,
            ("automodel", "/job/recipe.yaml", "--nproc-per-node", "1"),
            work,
            mounts=mounts,
            stop_s=20,
            env={"TRAINER_STEP_S": str(step_s), "TRAINER_BUFFER": "1", **env},
            labels={"slipway.run": "r1", "slipway.stage": "train_nemo"},
        )


@pytest.fixture(scope="session")
def podman_lab() -> Iterator[PodmanLab]:
    """Started with infra/lab/podman/up and ended with down; a machine that cannot have it reports that by name."""
    if os.getuid() != 0:
        pytest.skip("lab podman: not run: it needs root")
    folder = Path(tempfile.mkdtemp(prefix="slp-", dir="/tmp"))  # short: a unix socket's path is
    env = {**os.environ, "SLIPWAY_LAB_PODMAN": str(folder)}
    env.pop("DOCKER_HOST", None)
    up = subprocess.run([INFRA / "podman" / "up"], env=env, capture_output=True, text=True, check=False)
    if up.returncode == 4:
        shutil.rmtree(folder)
        pytest.skip(f"lab podman: not run: {up.stderr.strip()}")
    assert up.returncode == 0, up.stderr
    try:
        exported = subprocess.run(
            ["bash", "-c", f". {folder}/env && env -0"], env=env, capture_output=True, text=True, check=True
        ).stdout
        env = dict(pair.split("=", 1) for pair in exported.split("\0") if "=" in pair)
        repository = f"{env['LAB_REGISTRY']}/lab/trainer"
        subprocess.run([sys.executable, INFRA / "image" / "rootfs", folder / "rootfs"], env=env, check=True)
        subprocess.run(
            [INFRA / "image" / "build", folder / "rootfs", repository], env=env, check=True, capture_output=True
        )
        image = ImageConfig(repository=repository, tag="1")
        yield PodmanLab(folder, env, image.model_copy(update={"digests": read_digests(image)}))
    finally:
        subprocess.run([INFRA / "podman" / "down"], env=env, check=True)
