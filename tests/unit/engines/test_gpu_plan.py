"""The common parts of a GPU engine's plan: environment, image, and options of one's own."""

from __future__ import annotations

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.image import ImageConfig
from slipway.engines import gpu_plan
from slipway.engines.contract import load_contract
from slipway.engines.driver import Limits, ServePlan
from slipway.errors import ConfigError
from tests.support.engine_models import DIGEST, image, target

SPARK = target("spark")
CONTRACT = load_contract("vllm", "0.26.0")
UNPINNED = ImageConfig(repository="nvcr.io/nvidia/vllm", tag="26.08-py3")
PLAN = ServePlan(kind="vllm", argv=["vllm"], limits=Limits(context=128, slots=1))


def engine(**keys: object) -> EngineConfig:
    return EngineConfig.model_validate({"kind": "vllm", "image": "vllm", **keys})


def test_every_cache_lies_below_the_start_s_own_copy() -> None:
    variables = gpu_plan.environment(gpu_plan.CACHES, engine(), {})
    assert {variables[cache.variable] for cache in gpu_plan.CACHES} == {f"{{cache}}/{c.path}" for c in gpu_plan.CACHES}
    assert len({cache.path for cache in gpu_plan.CACHES}) == len(gpu_plan.CACHES)


def test_few_compilers_run_at_a_time() -> None:
    assert gpu_plan.environment((), engine(build_jobs=3), {})["MAX_JOBS"] == "3"


def test_variables_of_the_config_win_but_lead_no_cache_elsewhere() -> None:
    params = engine(environment={"HF_HUB_OFFLINE": "0", "NCCL_DEBUG": "INFO"})
    variables = gpu_plan.environment(gpu_plan.CACHES, params, {"OWN": "1"})
    assert (variables["HF_HUB_OFFLINE"], variables["NCCL_DEBUG"], variables["OWN"]) == ("0", "INFO", "1")
    with pytest.raises(ConfigError, match=r"engine\.environment\.TRITON_CACHE_DIR: /tmp/x"):
        gpu_plan.environment(gpu_plan.CACHES, engine(environment={"TRITON_CACHE_DIR": "/tmp/x"}), {})


def test_an_image_is_named_by_digest_once_it_is_pinned() -> None:
    assert gpu_plan.image_reference(image("vllm"), "arm64") == f"nvcr.io/nvidia/vllm@{DIGEST}"
    assert gpu_plan.image_reference(UNPINNED, "arm64") == "nvcr.io/nvidia/vllm:26.08-py3"
    assert gpu_plan.require_pinned(PLAN, image("vllm"), target("spark")) is PLAN
    with pytest.raises(ConfigError, match="pinned for none"):
        gpu_plan.require_pinned(PLAN, UNPINNED, target("spark"))


def test_an_entrypoint_that_starts_the_program_is_not_repeated() -> None:
    whole = ["vllm", "serve", "{model}"]
    assert gpu_plan.program(whole, image("vllm-openai"), SPARK) == ["{model}"]
    assert gpu_plan.program(whole, image("vllm-openai"), target("dgx-h100")) == whole, "Pyxis runs no entrypoint"
    assert gpu_plan.program(whole, image("vllm"), SPARK) == whole
    assert gpu_plan.program(whole, None, SPARK) == whole
    with pytest.raises(ConfigError, match="entrypoint of image"):
        gpu_plan.program(["trtllm-serve", "{model}"], image("vllm-openai"), SPARK)


def test_ranks_on_several_nodes_need_slurm_to_start_them() -> None:
    two = Limits(context=128, slots=1, tensor_parallel=2)
    assert gpu_plan.across_nodes(two, target("spark-pair"))
    assert not gpu_plan.across_nodes(two, target("dgx-h100"))
    with pytest.raises(ConfigError, match="2 ranks on 2 nodes through docker"):
        gpu_plan.across_nodes(two, SPARK.model_copy(update={"nodes": 2}))


def test_options_of_one_s_own_contradict_no_key_and_hold_no_place() -> None:
    decided = {"--max-num-seqs": "engine.slots", "--port": ""}
    assert gpu_plan.own_flags(engine(flags={"seed": 1}), CONTRACT, decided) == {"--seed": 1}
    for flags, step in (
        ({"max_num_seqs": 4}, "set engine.slots instead"),
        ({"port": 80}, "it is decided at each start"),
        ({"seeds": 1}, "did you mean seed?"),
        ({"chat-template": "{model}/x"}, "write it out"),
    ):
        with pytest.raises(ConfigError) as refused:
            gpu_plan.own_flags(engine(flags=flags), CONTRACT, decided)
        assert step in refused.value.next_step


@pytest.mark.parametrize("name", ["api-key", "--api-key", "api_key", "ssl-certfile", "--ssl_keyfile", "hf-token"])
def test_keys_and_tls_of_the_server_are_refused_and_not_shown(name: str) -> None:
    with pytest.raises(ConfigError, match=f"engine.flags.{name}: set.*leave it out") as refused:
        gpu_plan.own_flags(engine(flags={name: "hush-hush"}), CONTRACT, {})
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("name", ["VLLM_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "x_password", "LLAMA_APIKEY"])
def test_a_secret_is_no_variable_of_a_bundle_and_is_not_shown(name: str) -> None:
    with pytest.raises(ConfigError, match=f"engine.environment.{name}: set.*leave it out") as refused:
        gpu_plan.environment((), engine(environment={name: "hush-hush"}), {})
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "VLLM_MAX_TOKENS", "NCCL_DEBUG", "CUDA_KEYS_OF"])
def test_a_variable_that_only_sounds_like_one_stays(name: str) -> None:
    assert gpu_plan.environment((), engine(environment={name: "1"}), {})[name] == "1"
