"""Placeholders of a plan as a process and as a container see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway.agent.start_plan import usable_cores
from slipway.engines.driver import CacheSpec, Limits, ServePlan
from slipway.engines.rendering import Rendering

PLAN = ServePlan(
    kind="vllm",
    argv=["serve", "{model}", "--config", "{bundle}/serve.yaml", "--json", '{"a": {}}', "--host", "{host}:{port}"],
    files={"serve.yaml": "cache: {cache}/x\nport: {port}\n"},
    environment={"THREADS": "{threads}", "SEEN": "{bundle}"},
    caches=[CacheSpec(name="triton", path="triton", variable="TRITON_CACHE_DIR")],
    limits=Limits(context=64, slots=1),
)


def rendering(tmp_path: Path, **more: Any) -> Rendering:
    folders = [tmp_path / name for name in ("bundle", "model", "start")]
    return Rendering(PLAN, *folders, "127.0.0.1", 8123, **more)


def test_a_process_sees_the_folders_as_they_are(tmp_path: Path) -> None:
    start = rendering(tmp_path).render()
    config = str(tmp_path / "start" / "config" / "serve.yaml")
    model = str(tmp_path / "model")
    assert start.argv == ("serve", model, "--config", config, "--json", '{"a": {}}', "--host", "127.0.0.1:8123")
    assert start.environment == {
        "TRITON_CACHE_DIR": str(tmp_path / "start" / "cache" / "triton"),
        "THREADS": str(usable_cores()),
        "SEEN": str(tmp_path / "bundle"),
    }
    assert start.mounts == ()


def test_a_container_sees_mounts_of_which_it_writes_the_cache_alone(tmp_path: Path) -> None:
    start = rendering(tmp_path, in_container=True).render()
    assert start.argv[:4] == ("serve", "/slipway/model", "--config", "/slipway/config/serve.yaml")
    assert start.environment["TRITON_CACHE_DIR"] == "/slipway/cache/triton"
    assert {mount.target: (mount.source, mount.read_only) for mount in start.mounts} == {
        "/slipway/bundle": (tmp_path / "bundle", True),
        "/slipway/model": (tmp_path / "model", True),
        "/slipway/config": (tmp_path / "start" / "config", True),
        "/slipway/cache": (tmp_path / "start" / "cache", False),
    }


def test_every_start_has_its_own_cache_and_config(tmp_path: Path) -> None:
    one = rendering(tmp_path)
    one.write(lambda _plan, _bundle, cache: (cache / "warm").touch())
    cache = tmp_path / "start" / "cache"
    assert (tmp_path / "start" / "config" / "serve.yaml").read_text() == f"cache: {cache}/x\nport: 8123\n"
    assert [file.name for file in cache.iterdir()] == ["warm"]
    one.write()
    assert list(cache.iterdir()) == []
