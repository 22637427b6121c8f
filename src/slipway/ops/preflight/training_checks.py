"""What a training job needs of the machine that its target's row names: memory of a GPU, a docker engine, an image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from slipway.agent.image_environment import cuda_version
from slipway.agent.probe import gpus
from slipway.config.image import ImageConfig
from slipway.config.load import Config
from slipway.config.target import DockerConfig, SlurmConfig
from slipway.containers.images import architecture, check_before_pull, pinned
from slipway.errors import ConfigError, SlipwayError
from slipway.ops.preflight.finding import Finding, of_error
from slipway.ops.preflight.machine_checks import driver, gpu_memory
from slipway.ops.preflight.slurm_checks import slurm_checks
from slipway.planning.training_memory import training_fit
from slipway.runners.choose import described
from slipway.training.nemo.params import nemo_train_params

if TYPE_CHECKING:
    from slipway.containers.docker_client import DockerClient


def training_checks(config: Config) -> Iterator[Finding]:
    """The rows about training where NeMo trains; the embedded trainer is a stage like the others. A machine behind
    `remote.host` is asked by itself."""
    if config.train.backend != "nemo":
        return
    params, where = nemo_train_params(config), f"training on {config.target.name}"
    if (fitting := training_fit(params.model, params.train, params.target)) is not None:
        yield gpu_memory(where, f"{params.train.method} of {params.model.name}", fitting)
    runner = config.target.runner
    if config.remote.host is None and isinstance(runner, DockerConfig) and params.image is not None:
        yield from docker_checks(described(config.target), runner, params.image, config.target.arch)
    if config.remote.host is None and isinstance(runner, SlurmConfig):
        target = config.target
        yield from slurm_checks(described(target), runner.partition, target.nodes, target.gpus, runner.time_limit)


def docker_checks(where: str, runner: DockerConfig, image: ImageConfig, arch: str) -> Iterator[Finding]:
    """Whether the engine answers, its machine's architecture, and the image there or in its registry."""
    from slipway.containers.docker_client import DockerClient, UnreachableError

    engine = DockerClient(runner.host)
    try:
        info = engine.ask(lambda client: client.api.info())
    except UnreachableError as err:
        yield of_error(where, "docker engine", engine.unreachable_for(err, 0.0))
        return
    there = architecture(info["Architecture"])
    wrong = there != arch
    advice = "choose the target's row that fits, or its host" if wrong else ""
    yield Finding(where, "architecture", "fail" if wrong else "ok", f"{there}; {arch} is asked for", advice)
    row, cuda = _image(where, engine, image, arch)
    yield row
    engine_at = runner.host or os.environ.get("DOCKER_HOST", "unix:")
    if engine_at.startswith("unix:"):  # the driver of another machine nobody knows
        yield from driver(where, {"gpus": gpus()}, image.repository, cuda, image.driver or "")


def _image(where: str, engine: DockerClient, image: ImageConfig, arch: str) -> tuple[Finding, str]:
    from slipway.containers.pull import inspect_image

    reference = pinned(image, arch)
    name = f"image {image.repository}:{image.tag}"
    there = engine.ask(lambda client: inspect_image(client, reference))
    if there is not None:
        right = architecture(there["Architecture"]) == arch
        cuda = cuda_version((there.get("Config") or {}).get("Env"))
        return Finding(where, name, "ok" if right else "fail", f"there, for {there['Architecture']}"), cuda
    try:
        cuda = check_before_pull(image, arch)
    except ConfigError as err:
        return of_error(where, name, err), ""
    except SlipwayError as err:
        finding = f"not there; from here its registry says: {err.value}"
        return Finding(where, name, "warn", finding, "pull it there"), ""
    return Finding(where, name, "ok", "not there yet: the job pulls it, its registry has it"), cuda
