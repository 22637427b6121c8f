"""Engines as containers of a target, by the agent and a real podman: beside, rolled back, killed, brought up again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.agent import Agent
from slipway.agent.engine_container import Runtime
from slipway.engines.driver import Limits, ServePlan
from slipway.errors import EngineError
from slipway.store.artifacts import Engine
from slipway.store.store import Store, load
from tests.lab.podman_lab import PodmanLab
from tests.support import agent as support
from tests.support.target import SERVER

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def agent(podman_lab: PodmanLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    for name, value in podman_lab.env.items():
        monkeypatch.setenv(name, value)
    agent = Agent(tmp_path / "target")
    agent.call("stop", {"settings": support.settings(runtime="podman", start_timeout_s=60)})
    yield agent
    agent.close()
    agent.call("stop", {})


def image(lab: PodmanLab) -> str:
    """The lab's image with Python, by digest."""
    return f"{lab.image.repository}@{lab.image.digests[lab.arch]}"


def engine(store: Store, lab: PodmanLab, version: int, **model: Any) -> Engine:
    """An engine whose server is a script of the bundle, run by the image's Python."""
    argv = ["python3", "{bundle}/server", "--model", "{bundle}/model.gguf", "--host", "{host}", "--port", "{port}"]
    plan = ServePlan(kind="vllm", image=image(lab), argv=argv, limits=Limits(context=64, slots=1), stop_s=1)
    with store.create(Engine, f"e{version}", {"inputs": {}}) as out:
        (out / "serve.json").write_text(plan.model_dump_json())
        (out / "model.gguf").write_text(json.dumps({"answer": "{}", "v": version, **model}))
        (out / "server").write_text(SERVER)
    return load(Engine, store.dir("engine", f"e{version}"))


def containers(lab: PodmanLab, agent: Agent) -> dict[str, str]:
    """Release -> digest of its image, of the containers of this target that run."""
    shown = lab.podman("ps", "--filter", f"label=slipway.root={agent.paths.root}", "--format", "json")
    return {row["Labels"]["slipway.release"]: row["Image"] for row in json.loads(shown or "[]")}


def test_containers_are_promoted_rolled_back_and_brought_up_again_by_digest(
    agent: Agent, podman_lab: PodmanLab, tmp_path: Path
) -> None:
    store, both = Store(tmp_path / "store"), list[int]()
    first = support.promote(agent, engine(store, podman_lab, 1))
    second = support.promote(
        agent, engine(store, podman_lab, 2), lambda _: both.append(len(containers(podman_lab, agent)))
    )
    assert max(both) == 2
    assert containers(podman_lab, agent) == {second["name"]: image(podman_lab)}
    assert support.rollback(agent)["name"] == first["name"]
    podman_lab.podman("kill", f"slipway-{first['name']}")
    assert agent.call("status", {})["healthy"] is False
    assert agent.call("boot", {})["started"]
    assert containers(podman_lab, agent) == {first["name"]: image(podman_lab)}
    assert agent.call("status", {})["healthy"]


def test_a_candidate_that_dies_is_named_with_its_words_and_leaves_no_container(
    agent: Agent, podman_lab: PodmanLab, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    first = support.promote(agent, engine(store, podman_lab, 1))
    with pytest.raises(EngineError, match="unknown tensor type"):
        support.promote(agent, engine(store, podman_lab, 2, die=True))
    agent.close()
    assert containers(podman_lab, agent) == {first["name"]: image(podman_lab)}
    runtime = Runtime("podman", agent.paths.root)
    assert runtime.releases_that_run() == {first["name"]}
    assert agent.call("stop", {})["error"] is None
    assert containers(podman_lab, agent) == {}
