"""The engine section: one pinned source package, and at least one slot."""

from __future__ import annotations

import pytest

from slipway.config.engine import EngineConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key


def test_the_source_is_pinned_by_version_and_sha256():
    engine = EngineConfig()
    assert engine.version.count(".") == 2
    assert len(bytes.fromhex(engine.sha256)) == 32


def test_threads_of_null_stand_for_all_cores():
    assert EngineConfig(threads=None).threads is None


BOUNDS: list[Bound] = [
    ("kind", "vllm", "llama.cpp"),
    ("build_jobs", 0, 1),
    ("context", 127, 128),
    ("slots", 0, 1),
    ("threads", 0, 1),
    ("threads", 1.5, None),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_by_its_key_and_holds_inside(bound):
    assert_bound("engine", bound)


def test_every_bound_of_the_section_is_tried():
    assert_every_bound_is_listed(EngineConfig, BOUNDS)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("thread", "threads"),
        ("slot", "slots"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(key, near):
    assert_near_key("engine", key, near)
