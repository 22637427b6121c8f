"""Targets: which run jobs in containers, and what a row refuses."""

import pytest
from pydantic import ValidationError

from slipway.config.load import load_config
from slipway.config.target import DockerConfig, LocalRunConfig, SlurmConfig, TargetConfig
from tests.support.sections import refusal


@pytest.mark.parametrize(
    ("runner", "in_container"),
    [
        (LocalRunConfig(), False),
        (DockerConfig(kind="docker"), True),
        (SlurmConfig(kind="slurm"), True),
        (SlurmConfig(kind="slurm", container=False), False),
    ],
)
def test_jobs_run_in_containers_with_docker_and_under_slurm_unless_that_is_off(runner, in_container):
    assert TargetConfig(runner=runner).in_container is in_container


def test_every_shipped_row_loads_and_names_its_runner():
    spark = load_config(overrides=["layers.target=targets/spark"]).target
    local = load_config(overrides=["layers.target=targets/local"]).target
    assert (spark.name, spark.arch, spark.unified_memory, spark.in_container) == ("spark", "arm64", True, True)
    assert (local.runner.kind, local.gpus) == ("local", 0)


@pytest.mark.parametrize(
    "row", [{"gpus": -1}, {"gpu_memory_gb": 0}, {"arch": "riscv"}, {"runner": {"kind": "ray"}}, {"gpu": 1}]
)
def test_a_row_that_says_what_no_machine_is_does_not_load(row):
    with pytest.raises(ValidationError):
        TargetConfig.model_validate(row)


@pytest.mark.parametrize(
    ("runner", "cls"), [("local", LocalRunConfig), ("docker", DockerConfig), ("slurm", SlurmConfig)]
)
def test_the_kind_decides_which_keys_a_runner_has(runner, cls):
    assert isinstance(TargetConfig(runner={"kind": runner}).runner, cls)


def test_keys_of_another_kind_are_refused():
    with pytest.raises(ValidationError, match="partition"):
        TargetConfig(runner={"kind": "docker", "partition": "gpu"})
    with pytest.raises(ValidationError, match="kind"):
        TargetConfig(runner={"kind": "kubernetes"})


@pytest.mark.parametrize("keys", [{"nodes": 0}, {"gpus": -1}, {"gpu_memory_gb": 0}, {"arch": "x86"}], ids=str)
def test_a_machine_has_nodes_and_a_known_processor(keys):
    with pytest.raises(ValidationError, match=next(iter(keys))):
        TargetConfig(**keys)


def test_an_unknown_key_of_a_runner_is_refused_with_that_runners_near_one():
    message = refusal("target", "runner", {"kind": "slurm", "partitions": "gpu"})
    assert "partitions: unknown" in message
    assert message.endswith("did you mean partition?"), message
    assert "container" in message and "gpus" not in message, "the keys of slurm, not of docker"


def test_two_sparks_are_one_target_that_usable_memory_is_known_of():
    pair, spark = (load_config(overrides=[f"layers.target=targets/{name}"]).target for name in ("spark-pair", "spark"))
    assert (pair.nodes, pair.gpus, pair.runner.kind) == (2, 1, "slurm")
    for row in (pair, spark):
        usable = (row.gpu_memory_gb - row.reserve_gb) * 1e9
        assert usable <= 101 * 2**30, "the least of 101 to 106 GiB that kits were seen to give"


@pytest.mark.parametrize("path", ["relative", "/", "/one", "/a/../b", "/a b/c", "/a/$HOME", "/a/b/", "/a/-b"])
def test_a_staging_folder_is_one_of_its_own_and_needs_no_quoting(path):
    with pytest.raises(ValidationError, match="staging"):
        DockerConfig(kind="docker", staging=path)


def test_staging_goes_over_ssh_and_is_in_no_key():
    with pytest.raises(ValidationError, match="goes over ssh"):
        DockerConfig(kind="docker", host="unix:///var/run/docker.sock", staging="/home/me/slipway")
    staged = DockerConfig(kind="docker", host="ssh://me@spark", staging="/home/me/slipway")
    assert staged.key_document() == DockerConfig(kind="docker", host="ssh://me@spark").key_document()
