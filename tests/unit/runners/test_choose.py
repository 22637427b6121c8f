"""Which runner a target asks for, and what is refused before any work."""

import sys

import pytest

from slipway.config.image import ImageConfig
from slipway.config.load import load_config
from slipway.config.target import DockerConfig, SlurmConfig, TargetConfig
from slipway.errors import ConfigError, ResourceError
from slipway.ops.preflight import refuse_early
from slipway.runners.choose import described, runner_for
from slipway.runners.docker import DockerRunner
from slipway.runners.local import LocalRunner
from slipway.runners.slurm import SlurmRunner
from slipway.training.nemo.params import nemo_train_params

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


def config(*words):
    return load_config(overrides=list(words))


def test_one_config_sends_training_to_a_spark():
    params = nemo_train_params(config("layers.train=train/nemo-qlora", "layers.target=targets/spark"))
    assert (params.train.backend, params.target.name, params.target.arch) == ("nemo", "spark", "arm64")
    assert params.image and params.image.repository.endswith("nemo-automodel")


NEMO = (
    "layers.train=train/nemo-qlora",
    "layers.target=targets/spark",
    f"images.nemo-automodel.digests.arm64=sha256:{'2' * 64}",
)


def test_the_default_and_a_pinned_image_pass():
    refuse_early(config())
    refuse_early(config(*NEMO))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("layers.train=train/nemo-sft",),
            r"train\.method: sft; expected qlora or lora: the pipeline merges an adapter",
        ),
        (("train.tensor_parallel=2",), "qlora with"),
        (
            ("target.runner.image=other", "images.other.repository=reg.io/a", "images.other.tag=v1"),
            r"reg\.io/a.*digest.*slipway pin",
        ),
        (
            ("target.runner.image=nemo",),
            r"target\.runner\.image: nemo; expected a row of conf/images\.yaml \(nemo-automodel\)",
        ),
    ],
)
def test_what_cannot_end_well_is_refused_before_any_work(words, said):
    with pytest.raises(ConfigError, match=said):
        refuse_early(config(*NEMO, *words))
