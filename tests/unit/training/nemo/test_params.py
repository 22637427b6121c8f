"""Params of a NeMo training: out of the config, and which of them decide the stage's key."""

import pytest

from slipway.config.image import ImageConfig
from slipway.config.load import load_config
from slipway.config.target import DockerConfig, SlurmConfig, TargetConfig
from slipway.errors import ConfigError
from slipway.training.nemo.params import STAGE_STOP_S, STOP_S, image_digest, nemo_train_params
from tests.support.nemo import pico_params

AMD, ARM = "sha256:" + "1" * 64, "sha256:" + "2" * 64
IMAGE = ImageConfig(repository="registry.example/nemo", tag="1", digests={"amd64": AMD, "arm64": ARM})


def on(target=None, image=IMAGE, **train):
    return pico_params(**train).model_copy(update={"target": target or TargetConfig(), "image": image})


def test_the_key_is_that_of_recipe_model_gpus_and_image():
    key = on().key_document()
    assert key["image"] == AMD and key["train"]["rank"] == 4 and key["model"]["layers"] == 2
    assert set(key["target"]) == {"arch", "nodes", "gpus", "compute_capability"}


@pytest.mark.parametrize(
    "runner",
    [
        DockerConfig(kind="docker", host="ssh://me@spark"),
        SlurmConfig(kind="slurm", partition="a", time_limit="01:00:00"),
    ],
)
def test_how_a_job_reaches_its_machine_is_not_in_the_key(runner):
    assert on(TargetConfig(name="other", runner=runner)).key_document() == on().key_document()


@pytest.mark.parametrize(
    "other",
    [
        on(TargetConfig(gpus=2, gpu_memory_gb=80)),
        on(TargetConfig(nodes=2)),
        on(TargetConfig(arch="arm64")),
        on(TargetConfig(compute_capability="sm_121")),
        on(image=None),
        on(lr=2e-4),
    ],
)
def test_what_decides_the_bytes_changes_the_key(other):
    assert other.key_document() != on().key_document()


def test_the_image_is_the_one_of_the_targets_architecture():
    assert image_digest(on(TargetConfig(arch="arm64"))) == ARM
    assert image_digest(on(image=None)) is None
    assert image_digest(on(image=IMAGE.model_copy(update={"digests": {}}))) is None


def test_an_image_comes_along_only_where_jobs_run_in_containers():
    spark = nemo_train_params(load_config(overrides=["layers.train=train/nemo-qlora", "layers.target=targets/spark"]))
    local = nemo_train_params(load_config(overrides=["layers.train=train/nemo-qlora", "layers.target=targets/local"]))
    assert spark.image and spark.image.repository.endswith("nemo-automodel")
    assert local.image is None


def test_an_image_without_a_row_is_named():
    with pytest.raises(ConfigError, match=r"target\.runner\.image: other; expected a row of conf/images\.yaml"):
        nemo_train_params(load_config(overrides=["layers.target=targets/spark", "target.runner.image=other"]))


def test_the_stage_outlives_the_job_that_it_stops():
    assert STAGE_STOP_S > STOP_S
