"""Which runner a target's row asks for. Each is imported when it is needed: a Slurm login node needs no docker package."""

from __future__ import annotations

from slipway.errors import ConfigError
from slipway.runner import Runner
from slipway.targets import DockerConfig, ImageConfig, LocalRunConfig, TargetConfig


def runner_for(target: TargetConfig, image: ImageConfig | None) -> Runner:
    """Raises ConfigError when a container is asked for and no image is given."""
    params = target.runner
    if isinstance(params, LocalRunConfig):
        from slipway.local_runner import LocalRunner

        return LocalRunner()
    if isinstance(params, DockerConfig):
        from slipway.docker_runner import DockerRunner

        if image is None:
            raise ConfigError("target.runner.image", params.image, "a row of conf/images.yaml", "add it, and pin it with `slipway pin`")
        return DockerRunner(params, target, image)
    from slipway.slurm_runner import SlurmRunner

    return SlurmRunner(params, target, image)
