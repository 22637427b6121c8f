"""Which runner a target's row asks for. Imported when needed: a Slurm login node has no docker package."""

from __future__ import annotations

import os
import platform

from slipway.config.image import ImageConfig
from slipway.config.target import DockerConfig, LocalRunConfig, TargetConfig
from slipway.errors import ConfigError, ResourceError
from slipway.runners.base import Runner


def runner_for(target: TargetConfig, image: ImageConfig | None) -> Runner:
    """Raises ConfigError for a container without an image, ResourceError without the docker package."""
    params = target.runner
    if isinstance(params, LocalRunConfig):
        from slipway.runners.local import LocalRunner

        return LocalRunner()
    if isinstance(params, DockerConfig):
        try:
            from slipway.runners.docker import DockerRunner
        except ImportError as err:
            raise ResourceError(
                "python package docker", str(err), "docker and paramiko", "`pip install 'slipway[docker]'`"
            ) from err
        if image is None:
            raise ConfigError(
                "target.runner.image",
                params.image,
                "a row of conf/images.yaml",
                "add it, and pin it with `slipway pin`",
            )
        runner = DockerRunner(params, target, image)
        if params.staging is None:
            return runner
        from slipway.runners.staging import StagedRunner, StagingArea

        address = params.host or os.environ.get("DOCKER_HOST") or ""
        return StagedRunner(runner, StagingArea(address, params.staging))
    from slipway.runners.slurm import SlurmRunner

    return SlurmRunner(params, target, image)


def is_here(target: TargetConfig) -> bool:
    """Whether its jobs run on this machine: as a process, or by a docker engine on a socket of this machine."""
    params = target.runner
    if isinstance(params, LocalRunConfig):
        return True
    if not isinstance(params, DockerConfig):
        return False
    address = params.host or os.environ.get("DOCKER_HOST") or "unix://"
    return address.partition("://")[0] in ("unix", "http+unix")


def described(target: TargetConfig) -> str:
    """Where jobs of this target run, in words: `docker at ssh://user@spark`."""
    params = target.runner
    if isinstance(params, LocalRunConfig):
        return f"process on {platform.node()}"
    return (
        f"docker at {params.host or os.environ.get('DOCKER_HOST') or 'this machine'}"
        if isinstance(params, DockerConfig)
        else "slurm"
    )
