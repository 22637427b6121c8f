"""The engine section: one pinned source package, and at least one slot."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from slipway.config.engine import EngineConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key


def test_the_source_is_pinned_by_version_and_sha256():
    engine = EngineConfig()
    assert engine.version.count(".") == 2
    assert len(bytes.fromhex(engine.sha256)) == 32


def test_threads_of_null_stand_for_all_cores():
    assert EngineConfig(threads=None).threads is None


def test_every_key_is_documented():
    text = Path("docs/engines.md").read_text()
    assert [name for name in EngineConfig.model_fields if f"`{name}`" not in text] == []


BOUNDS: list[Bound] = [
    ("kind", "sglang", "vllm"),
    ("workload.users", 0, 1),
    ("workload.starts_a_day", 0, 0.1),
    ("workload.hours_a_day", 0, 0.5),
    ("workload.hours_a_day", 24.5, 24),
    ("build_jobs", 0, 1),
    ("context", 127, 128),
    ("slots", 0, 1),
    ("threads", 0, 1),
    ("threads", 1.5, None),
    ("python", "", None),
    ("contract", "", "0.26.0"),
    ("batched_tokens", 0, 1),
    ("kv_gb", 0, 0.5),
    ("kv_dtype", "fp4", "fp8"),
    ("graph_sizes", [0], []),
    ("tensor_parallel", 0, 1),
    ("pipeline_parallel", 0, 1),
    ("drain_s", -1, 0),
    ("start_s", 0, 0.5),
    ("environment", {"A-B": "1"}, {"A_B": "1"}),
    ("cache_gb", 0, 0.5),
    ("boots.cold", 0, 1),
    ("boots.warm", -1, 0),
    ("agreement.check", "maybe", "off"),
    ("agreement.prompts", 0, 1),
    ("agreement.prompts", 51, 50),
    ("agreement.tokens", 23, 24),
    ("agreement.states_gb", 0, 0.5),
    ("agreement.second", "sometimes", "always"),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_by_its_key_and_holds_inside(bound):
    assert_bound("engine", bound)


def test_every_bound_of_the_section_is_tried():
    assert_every_bound_is_listed(EngineConfig, BOUNDS)


def test_where_caches_lie_is_not_in_the_key(tmp_path):
    elsewhere = EngineConfig(cache_dir=str(tmp_path), cache_gb=1)
    assert elsewhere.key_document() == EngineConfig().key_document()
    assert "boots" in EngineConfig(boots={"cold": 1, "warm": 0}).key_document()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "vllm", "image": "vllm", "python": "p"}, "give one of them"),
        ({"kind": "trtllm", "python": "p"}, "only vllm runs so"),
        ({"kind": "llama.cpp", "image": "vllm"}, "built on this machine"),
    ],
)
def test_an_engine_comes_from_one_place(keys, message):
    with pytest.raises(ValidationError, match=message):
        EngineConfig(**keys)


def test_keys_of_gpu_engines_left_alone_change_no_key_of_what_was_made_before():
    unchecked = EngineConfig(agreement={"check": "off"})  # as every engine was before there was a check
    assert set(unchecked.key_document()) == {
        "kind", "package", "version", "sha256", "build_jobs", "context", "slots", "threads"
    }  # fmt: skip
    assert EngineConfig().key_document()["agreement"] == {"check": "auto"}
    assert EngineConfig(kind="vllm", image="vllm").key_document()["image"] == "vllm"


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("thread", "threads"),
        ("slot", "slots"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(key, near):
    assert_near_key("engine", key, near)
