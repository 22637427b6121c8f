"""The batch script: what sbatch, srun, Pyxis and torchrun are told."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.config.image import ImageConfig
from slipway.config.load import load_config
from slipway.config.target import SlurmConfig, TargetConfig
from slipway.errors import ConfigError
from slipway.runners.base import Job, Mount
from slipway.runners.slurm_script import checkpoints, command, container, container_uri, options, render, write

DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGE = ImageConfig(repository="nvcr.io/nvidia/nemo-automodel", tag="26.10.00", digests={"amd64": DIGEST})
ARGV = ("python3", "/job/start.py", "--", "automodel", "/job/recipe.yaml", "--nproc-per-node", "8")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    mounts = (Mount(Path("/models/x"), "/models/x"), Mount(tmp_path / "ckpt", "/ckpt", read_only=False))
    labels = {"slipway.run": "r1", "slipway.stage": "train_nemo"}
    return Job(
        "slipway-train_nemo-1",
        ARGV,
        tmp_path,
        {"HF_HUB_OFFLINE": "1", "SAID": "it's $5"},
        mounts,
        labels,
        processes=8,
        stop_s=240,
    )


def slurm(**more: Any) -> SlurmConfig:
    return SlurmConfig(**{"kind": "slurm", **more})


def target(**more: Any) -> TargetConfig:
    return TargetConfig(**{"name": "dgx", "gpus": 8, "gpu_memory_gb": 80, **more})


def test_options_come_from_the_row(job: Job) -> None:
    params = slurm(
        partition="batch", account="llm", qos="high", time_limit="08:00:00", signal_s=600, extra=["--exclusive"]
    )
    flags = options(job, params, target(nodes=2), "slipway-train_nemo-1.ab12")
    assert flags == [
        "--job-name=slipway-train_nemo-1.ab12",
        "--comment='slipway.run=r1 slipway.stage=train_nemo slipway.job=slipway-train_nemo-1'",
        "--nodes=2",
        "--ntasks-per-node=1",
        "--time=08:00:00",
        "--signal=B:USR1@600",
        "--requeue",
        "--open-mode=append",
        f"--output={job.work}/log.txt",
        f"--chdir={job.work}",
        "--kill-on-invalid-dep=yes",
        "--gpus-per-node=8",
        "--partition=batch",
        "--account=llm",
        "--qos=high",
        "--export=NONE",
        "--exclusive",
    ]


def test_without_gpus_and_container_nothing_is_asked_for_and_the_environment_comes_along(job: Job) -> None:
    flags = options(job, slurm(container=False), target(gpus=0), "n")
    assert not [o for o in flags if o.startswith(("--gpus", "--partition", "--account", "--qos", "--export"))]


def test_one_node_runs_the_entry_point_several_meet_through_torchrun(job: Job) -> None:
    assert " ".join(command(job, target())) == " ".join(ARGV)
    assert " ".join(command(job, target(nodes=4))) == (
        "python3 /job/start.py -- torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint "
        '"$head:$port"'
        ' --rdzv-id "$token" -m nemo_automodel.cli.app /job/recipe.yaml'
    )
    other = replace(job, argv=("nvidia-smi", "-L"))
    assert command(other, target(nodes=4)) == ["nvidia-smi", "-L"]


@pytest.mark.parametrize(
    ("repository", "uri"),
    [
        ("nvcr.io/nvidia/nemo-automodel", f"nvcr.io#nvidia/nemo-automodel:{DIGEST}"),
        ("localhost:5000/x", f"localhost:5000#x:{DIGEST}"),
        ("nvidia/x", f"nvidia/x:{DIGEST}"),
        ("ubuntu", f"ubuntu:{DIGEST}"),
    ],
)
def test_the_image_is_named_by_digest_in_enroot_s_grammar(repository: str, uri: str) -> None:
    assert container_uri(ImageConfig(repository=repository, tag="1", digests={"amd64": DIGEST}), "amd64") == uri


def test_an_image_that_is_not_pinned_is_refused(job: Job) -> None:
    with pytest.raises(ConfigError, match=r"a digest for arm64.*slipway pin"):
        container_uri(IMAGE, "arm64")
    with pytest.raises(ConfigError, match=r"target.runner.image: nemo-automodel"):
        container(job, slurm(), target(), None)


def test_mounts_are_read_only_unless_said_and_the_fence_is_among_them(job: Job) -> None:
    flags = container(job, slurm(), target(), IMAGE)
    assert (
        f"--container-mounts=/models/x:/models/x:ro,{job.work}/ckpt:/ckpt,"
        f"{job.work}/fence:/fence,{job.work}/fence.py:/fence.py:ro" in flags
    )
    assert "--no-container-mount-home" in flags
    assert container(job, slurm(container=False), target(), None) == []


def test_a_path_that_pyxis_would_cut_is_refused(job: Job) -> None:
    split = replace(job, mounts=(Mount(Path("/data/a,b"), "/data"),))
    with pytest.raises(ConfigError, match=r"/data/a,b; expected a path without"):
        container(split, slurm(), target(), IMAGE)


def test_what_is_fenced_is_the_writable_mount_or_the_folder_s_own(job: Job) -> None:
    assert checkpoints(job) == job.work / "ckpt"
    elsewhere = replace(job, mounts=(Mount(Path("/in"), "/in"), Mount(Path("/scratch/c"), "/ckpt", read_only=False)))
    assert checkpoints(elsewhere) == Path("/scratch/c")
    assert checkpoints(replace(job, mounts=())) == job.work / "ckpt"


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("inside", [True, False])
def test_the_script_is_bash_and_lies_beside_its_fence(job: Job, nodes: int, inside: bool) -> None:
    script = write(job, slurm(container=inside), target(nodes=nodes), IMAGE, "name")
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    head = text.splitlines()
    assert head[0] == "#!/bin/bash"
    first = next(i for i, line in enumerate(head) if i and not line.startswith("#SBATCH"))
    assert not [
        line for line in head[first:] if line.startswith("#SBATCH")
    ]  # sbatch stops reading at the first command
    assert ("is_host" in text) == ("NodeAddr" in text) == (nodes > 1)
    assert (job.work / "fence.py").read_text().startswith('"""One writer')


def test_a_variable_reaches_the_step_as_it_is(job: Job) -> None:
    """The rendered step runs here, with srun replaced by running its command."""
    echo = replace(job, argv=("bash", "-c", 'printf %s "$SAID"'))
    lines = render(echo, slurm(container=False), target(), None, "n").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("srun "))
    step = "\n".join(lines[at + 1 : at + 3]).strip().removesuffix("&")
    step = step.replace('exec python3 "$script" hold "$fence" "$epoch" "$SLURM_NODEID" "$lease" -- ', "")
    completed = subprocess.run(
        ["bash", "-uc", f"work=. epoch=1 lease=1; {step}"], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "it's $5"


def test_the_shipped_slurm_rows_render(job: Job) -> None:
    for row in ("dgx-h100", "dgx-b200"):
        config = load_config(overrides=[f"layers.target=targets/{row}"])
        assert isinstance(config.target.runner, SlurmConfig)
        assert "--gpus-per-node=8" in render(job, config.target.runner, config.target, IMAGE, "n")
