"""Contracts: names, kinds and choices of an engine's version; neighbours where a version has no list."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.engines.contract import load_contract, newest, versions
from slipway.errors import ConfigError

VLLM = load_contract("vllm", "0.26.0")
TRTLLM = load_contract("trtllm", "1.3.0rc22")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"--max-num-seqs": 8}, ["--max-num-seqs", "8"]),
        ({"max_num_seqs": 8}, ["--max-num-seqs", "8"]),
        ({"-tp": 2}, ["-tp", "2"]),
        ({"enforce-eager": True}, ["--enforce-eager"]),
        ({"enforce-eager": False}, ["--no-enforce-eager"]),
        ({"no-enforce-eager": True}, ["--no-enforce-eager"]),
        ({"cudagraph-capture-sizes": [1, 2]}, ["--cudagraph-capture-sizes", "1", "2"]),
        ({"compilation-config": {"mode": 3}}, ["--compilation-config", '{"mode": 3}']),
        ({"gpu-memory-utilization": 1}, ["--gpu-memory-utilization", "1"]),
        ({"max-lora-rank": 16}, ["--max-lora-rank", "16"]),
    ],
)
def test_options_become_words_under_listed_names(given: dict[str, Any], words: list[str]) -> None:
    assert VLLM.argv(given) == words


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max-num-seq": 8}, "engine option max-num-seq: unknown; expected an option of vllm serve 0.26.0. Next: did"),
        ({"max-num-seqs": "many"}, "engine option --max-num-seqs: 'many'; expected int"),
        ({"max-num-seqs": True}, "engine option --max-num-seqs: True; expected int"),
        ({"max-num-seqs": [1, 2]}, "engine option --max-num-seqs: [1, 2]; expected one value"),
        ({"kv-cache-dtype": "fp9"}, "engine option --kv-cache-dtype: fp9; expected for vllm serve 0.26.0 one of auto"),
        ({"max-lora-rank": 17}, "engine option --max-lora-rank: 17"),
        ({"enforce-eager": "yes"}, "engine option --enforce-eager: yes; expected true or false"),
        ({"disable-log-stats": False}, "engine option --disable-log-stats: False; expected an option that can be"),
    ],
)
def test_what_the_contract_does_not_take_is_refused_by_its_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        VLLM.argv(given)
    assert str(refused.value).startswith(message), refused.value
    assert len(str(refused.value)) < 2000


def test_another_spelling_of_an_option_is_the_same_option() -> None:
    assert TRTLLM.canonical("tp_size") == TRTLLM.canonical("--tensor_parallel_size")
    assert TRTLLM.canonical("kv_cache_free_gpu_memory_fraction") == TRTLLM.canonical("free_gpu_memory_fraction")
    assert VLLM.canonical("no-enable-sleep-mode") == "--no-enable-sleep-mode"


def test_keys_of_a_config_file_are_checked_at_every_depth() -> None:
    contract = load_contract("trtllm", "1.3.0rc24")
    good = {"max_batch_size": 4, "kv_cache_config": {"dtype": "fp8"}, "moe_config": {"backend": "CUTLASS"}}
    assert contract.check_keys(good) == []
    assert contract.check_keys({"speculative_config": {"anything": 1}, "lora_config": None}) == ["speculative_config"]
    for bad, name in (
        ({"max_batchsize": 4}, "engine key max_batchsize: unknown"),
        ({"kv_cache_config": {"max_token": 4}}, "engine key kv_cache_config.max_token: unknown"),
        ({"kv_cache_config": 4}, "engine key kv_cache_config: 4; expected a mapping"),
        ({"moe_config": {"backend": "FAST"}}, "engine key moe_config.backend: FAST"),
        ({"max_batch_size": "4"}, "engine key max_batch_size: '4'; expected int"),
    ):
        with pytest.raises(ConfigError) as refused:
            contract.check_keys(bad)
        assert str(refused.value).startswith(name), refused.value


def test_a_version_without_a_list_is_checked_against_what_both_neighbours_have() -> None:
    between = load_contract("trtllm", "1.3.0rc13")
    old, new = load_contract("trtllm", "1.2.1"), load_contract("trtllm", "1.3.0rc15")
    assert set(between.options) == set(old.options) & set(new.options)
    assert "--served_model_name" not in between.options
    assert any("1.2.1 and 1.3.0rc15" in note for note in between.notes)
    assert old.notes == ("No list of the keys of trtllm-serve 1.2.1: checked against 1.3.0rc24.",)


def test_a_version_after_the_last_list_is_checked_against_that() -> None:
    later = load_contract("vllm", "0.27.1")
    assert later.options == VLLM.options
    assert later.notes and VLLM.notes == ()
    assert newest("vllm") == versions("vllm")[-1] == "0.26.0"


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="the engine's version"):
        load_contract("vllm", "newest")
