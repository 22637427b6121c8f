"""What `slipway serve` is given: a bundle, a model, or neither. tests/lab makes a bundle of a model and serves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.target import DockerConfig, TargetConfig
from slipway.engines.bundle import SERVE
from slipway.engines.directory import Machinery, service_for
from slipway.errors import ConfigError
from slipway.system.progress import Progress
from tests.support.scripted_server import bundle


def machinery(tmp_path: Path, **more: Any) -> Machinery:
    params = more.pop("params", EngineConfig())
    return Machinery(params, more.pop("target", TargetConfig()), None, tmp_path / "root", tmp_path / "cache", **more)


def test_a_bundle_is_served_by_its_own_plan(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b", slots=3)
    with service_for(made, machinery(tmp_path), Progress()) as service:
        assert (service.bundle, service.plan.limits.slots, service.port) == (made, 3, None)
        assert service.work.is_relative_to(tmp_path / "root")


def test_two_servers_of_one_bundle_have_a_folder_each_and_the_next_takes_the_first_again(tmp_path: Path) -> None:
    made, settings = bundle(tmp_path / "b"), machinery(tmp_path)
    with service_for(made, settings, Progress()) as one, service_for(made, settings, Progress()) as two:
        assert one.work != two.work
    with service_for(made, settings, Progress()) as again:
        assert again.work == one.work


def test_what_is_neither_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"nothing: no directory"),
        service_for(tmp_path / "nothing", machinery(tmp_path), Progress()),
    ):
        pass
    with (
        pytest.raises(ConfigError, match=r"neither serve\.json nor config\.json"),
        service_for(tmp_path, machinery(tmp_path), Progress()),
    ):
        pass


def test_a_model_that_its_engine_cannot_serve_here_leaves_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    far = TargetConfig(name="spark", runner=DockerConfig(kind="docker"))
    with (
        pytest.raises(ConfigError, match="spark"),
        service_for(tmp_path / "model", machinery(tmp_path, target=far), Progress()),
    ):
        pass
    assert list((tmp_path / "root").rglob(SERVE)) == []


def test_a_port_is_chosen_by_the_machine_that_has_containers(tmp_path: Path) -> None:
    far = TargetConfig(name="spark", runner=DockerConfig(kind="docker"))
    with (
        pytest.raises(ConfigError, match="--port"),
        service_for(bundle(tmp_path / "b"), machinery(tmp_path, target=far, port=8000), Progress()),
    ):
        pass


def test_a_new_server_makes_room_by_what_was_served_longest_ago_and_says_so(tmp_path: Path) -> None:
    settings = machinery(tmp_path, params=EngineConfig(cache_gb=1e-5))
    for name in ("one", "two"):
        with service_for(bundle(tmp_path / name), settings, Progress()) as service:
            (service.work / "cache").write_bytes(bytes(9_000))
            kept = service.work.parent
    heard: list[str] = []

    class Heard(Progress):
        def note(self, text: str) -> None:
            heard.append(text)

    with service_for(tmp_path / "two", settings, Heard()) as service:
        assert service.work.parent == kept
    (line,) = heard
    assert str(tmp_path / "one") in line
    assert "engine.cache_gb is 1e-05" in line
    assert [path for path in (tmp_path / "root").iterdir() if path.is_dir()] == [kept]
