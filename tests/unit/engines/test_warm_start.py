"""A start from a bundle's caches on this machine: the key of what starts, and why one is cold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.target import TargetConfig
from slipway.engines.bundle import read_plan
from slipway.engines.driver import CacheSpec
from slipway.engines.machine_facts import UNKNOWN
from slipway.engines.serving import Service
from slipway.engines.warm_cache import harvest
from slipway.engines.warm_start import WarmFill, quantization_config, start_key, warmed, weights_digest
from slipway.errors import StateError
from tests.support.scripted_server import bundle

TRITON = CacheSpec(name="triton", path="triton", variable="TRITON_CACHE_DIR")


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """A server with one cache, of a checkpoint whose digest the bundle's manifest holds."""
    made = bundle(tmp_path / "b")
    checkpoint = {"uri": str(tmp_path / "m"), "kind": "checkpoint", "digest": "c" * 64}
    manifest = {"kind": "engine", "digest": "d", "key": "k", "files": [], "provenance": {}}
    manifest["provenance"] = {"inputs": {"checkpoint": checkpoint}}
    (made / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "m").mkdir()
    (tmp_path / "live/triton").mkdir(parents=True)
    (tmp_path / "live/triton/kernel").write_text("kernel")
    plan = read_plan(made).model_copy(update={"caches": [TRITON]})
    return Service(made, plan, TargetConfig(), tmp_path / "work", tmp_path / "m")


def test_a_bundle_without_caches_is_served_as_it_is(service: Service) -> None:
    assert warmed(service, print) is service


def test_a_start_gets_the_caches_of_its_bundle(service: Service, tmp_path: Path) -> None:
    harvest(tmp_path / "live", service.bundle, start_key(service, "c" * 64))
    notes: list[str] = []
    filled = warmed(service, notes.append).fill_cache
    assert isinstance(filled, WarmFill)
    (tmp_path / "start").mkdir()
    filled(service.plan, service.bundle, tmp_path / "start")
    assert (tmp_path / "start/triton/kernel").read_text() == "kernel"
    assert (filled.reasons, notes) == ([], [])


def test_caches_of_other_weights_are_not_used_and_the_reason_is_noted(service: Service, tmp_path: Path) -> None:
    harvest(tmp_path / "live", service.bundle, start_key(service, "another"))
    notes: list[str] = []
    filled = warmed(service, notes.append).fill_cache
    assert filled is not None
    (tmp_path / "start").mkdir()
    filled(service.plan, service.bundle, tmp_path / "start")
    assert list((tmp_path / "start").iterdir()) == []
    (note,) = notes
    assert f"weights: another, now {'c' * 64}" in note


def test_weights_that_nobody_names_are_unknown(tmp_path: Path) -> None:
    assert weights_digest(tmp_path) == UNKNOWN


def test_quantization_is_what_the_checkpoint_states(tmp_path: Path) -> None:
    assert quantization_config(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "fp8"}}))
    assert quantization_config(tmp_path) == {"config.json": {"quant_method": "fp8"}}
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(StateError):
        quantization_config(tmp_path)
