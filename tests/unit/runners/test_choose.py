"""Which runner a target asks for."""

import sys

import pytest

from slipway.config.image import ImageConfig
from slipway.config.target import DockerConfig, SlurmConfig, TargetConfig
from slipway.errors import ConfigError, ResourceError
from slipway.runners.choose import described, is_here, runner_for
from slipway.runners.docker import DockerRunner
from slipway.runners.local import LocalRunner
from slipway.runners.slurm import SlurmRunner

IMAGE = ImageConfig(
    repository="registry.example/nemo", tag="1", digests={"amd64": "sha256:" + "1" * 64, "arm64": "sha256:" + "2" * 64}
)


def target(runner):
    return TargetConfig(name="t", runner=runner)


def test_a_row_names_its_runner():
    docker, slurm = target(DockerConfig(kind="docker", host="ssh://me@spark")), target(SlurmConfig(kind="slurm"))
    assert isinstance(runner_for(TargetConfig(), None), LocalRunner)
    assert isinstance(runner_for(docker, IMAGE), DockerRunner)
    assert isinstance(runner_for(slurm, IMAGE), SlurmRunner)
    assert [
        t.in_container for t in (TargetConfig(), docker, slurm, target(SlurmConfig(kind="slurm", container=False)))
    ] == [
        False,
        True,
        True,
        False,
    ]
    assert described(docker) == "docker at ssh://me@spark" and described(slurm) == "slurm"
    with pytest.raises(ConfigError, match=r"conf/images\.yaml"):
        runner_for(docker, None)


def test_without_the_docker_package_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "slipway.runners.docker", None)
    with pytest.raises(ResourceError, match=r"python package docker.*slipway\[docker\]"):
        runner_for(target(DockerConfig(kind="docker")), IMAGE)


@pytest.mark.parametrize(
    ("runner", "environment", "here"),
    [
        (None, None, True),
        (DockerConfig(kind="docker"), None, True),
        (DockerConfig(kind="docker"), "ssh://me@spark", False),
        (DockerConfig(kind="docker", host="unix:///run/docker.sock"), "ssh://me@spark", True),
        (DockerConfig(kind="docker", host="tcp://spark:2375"), None, False),
        (SlurmConfig(kind="slurm"), None, False),
    ],
)
def test_whether_a_target_is_this_machine(monkeypatch, runner, environment, here):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    if environment:
        monkeypatch.setenv("DOCKER_HOST", environment)
    assert is_here(target(runner) if runner else TargetConfig()) is here
