"""Which runner a target's row asks for. Each is imported when it is needed: a Slurm login node needs no docker package."""

from __future__ import annotations

import os
import platform

from slipway.errors import ConfigError, ResourceError
from slipway.runner import Runner
from slipway.targets import DockerConfig, ImageConfig, LocalRunConfig, TargetConfig


def runner_for(target: TargetConfig, image: ImageConfig | None) -> Runner:
    """Raises ConfigError when a container is asked for and no image is given, ResourceError without the docker package."""
    params = target.runner
    if isinstance(params, LocalRunConfig):
        from slipway.local_runner import LocalRunner

        return LocalRunner()
    if isinstance(params, DockerConfig):
        try:
            from slipway.docker_runner import DockerRunner
        except ImportError as err:
            raise ResourceError("python package docker", str(err), "docker and paramiko", "`pip install 'slipway[docker]'`") from err
        if image is None:
            raise ConfigError("target.runner.image", params.image, "a row of conf/images.yaml", "add it, and pin it with `slipway pin`")
        return DockerRunner(params, target, image)
    from slipway.slurm_runner import SlurmRunner

    return SlurmRunner(params, target, image)


def described(target: TargetConfig) -> str:
    """Where jobs of this target run, in words: `docker at ssh://user@spark`."""
    params = target.runner
    if isinstance(params, LocalRunConfig):
        return f"process on {platform.node()}"
    return f"docker at {params.host or os.environ.get('DOCKER_HOST') or 'this machine'}" if isinstance(params, DockerConfig) else "slurm"
