"""Servers that fail in the ways of real ones, in a real container engine: each ends in one error that names what
happened, and nothing is left running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.target import TargetConfig
from slipway.engines.chat_client import ChatClient
from slipway.engines.driver import ServePlan
from slipway.engines.serving import Service, serve, stop
from slipway.engines.vllm.driver import DRIVER
from slipway.errors import EngineError, ResourceError, SlipwayError
from tests.lab.engine_lab import EngineImages
from tests.lab.engine_run import ASKED, SMALL, answers

# docker's client leaves the socket of an engine that was stopped to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def images(engine_images: EngineImages) -> Iterator[EngineImages]:
    """The images, and proof that a test leaves no container behind."""
    yield engine_images
    if left := names(engine_images):
        engine_images.lab.podman("rm", "--all", "--force", "--time", "0")
    assert left == []


@pytest.fixture(scope="module")
def plan(engine_images: EngineImages) -> ServePlan:
    """vLLM's plan for the lab's container engine."""
    params = EngineConfig(kind="vllm", image="vllm", environment={"LAB_COMPILE_S": "0.2"}, **SMALL)
    return DRIVER.plan(engine_images.model, params, engine_images.target(), engine_images.image("vllm", "0.26.0"))


Make = Callable[..., Service]


@pytest.fixture
def make(images: EngineImages, plan: ServePlan, tmp_path: Path) -> Make:
    """A service of the plan; keywords change the plan, `environment` is added to its own."""

    def made(port: int | None = None, environment: dict[str, str] | None = None, **more: object) -> Service:
        changed = plan.model_copy(update={**more, "environment": {**plan.environment, **(environment or {})}})
        bundle = tmp_path / "bundle"
        bundle.mkdir(exist_ok=True)
        return Service(bundle, changed, images.target(), tmp_path / "server", images.model, port)

    return made


def names(images: EngineImages) -> list[str]:
    return images.lab.podman("ps", "--all", "--format", "{{.Names}}").split()


def test_a_server_that_dies_while_loading_is_named_with_the_end_of_its_log(make: Make) -> None:
    with pytest.raises(EngineError, match=r"(?s)died .*illegal memory access"):
        serve(make(environment={"LAB_FAULT": "dies"}))


def test_a_server_that_is_not_healthy_in_time_is_ended(make: Make) -> None:
    with pytest.raises(EngineError, match=r"not healthy yet(?s:.*)healthy within 2 s"):
        serve(make(environment={"LAB_HOLD_S": "3600"}, start_s=2))


def test_a_server_that_is_healthy_late_but_in_time_serves(make: Make) -> None:
    endpoint = serve(make(environment={"LAB_HOLD_S": "2"}))
    stop(endpoint)


def test_a_server_that_ignores_sigterm_is_killed_after_its_time(make: Make) -> None:
    endpoint = serve(make(environment={"LAB_FAULT": "ignores-sigterm"}, stop_s=1))
    stop(endpoint)
    assert "Waiting for background tasks" in endpoint.job.log.read_text()


def test_an_image_of_another_architecture_is_refused(images: EngineImages, make: Make) -> None:
    other = images.image("other-arch", "0.26.0")
    (digest,) = other.digests.values()
    with pytest.raises(SlipwayError, match=r"arm64|architecture|exec format") as caught:
        serve(make(image=f"{other.repository}@{digest}"))
    assert len(str(caught.value)) < 3000


def test_a_full_disk_under_the_cache_is_named(make: Make, tmp_path: Path) -> None:
    start = tmp_path / "server" / "start"
    start.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(start)], check=True)
    try:
        with pytest.raises((EngineError, ResourceError), match="No space left on device"):
            serve(make())
    finally:
        subprocess.run(["umount", str(start)], check=True)


def test_a_port_that_is_taken_is_named(engine_images: EngineImages, tmp_path: Path) -> None:
    """In a Python environment of this machine: a container has its ports to itself."""
    gpu = {"gpus": 1, "gpu_memory_gb": 80, "compute_capability": "sm_90"}
    machine = TargetConfig(name="here", **gpu)
    modules = {"PYTHONPATH": str(engine_images.folder / "modules"), "LAB_COMPILE_S": "0.2"}
    params = EngineConfig(kind="vllm", python=sys.executable, environment=modules, **SMALL)
    (tmp_path / "bundle").mkdir()
    plan = DRIVER.plan(engine_images.model, params, machine)
    service = Service(tmp_path / "bundle", plan, machine, tmp_path / "server", engine_images.model)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=f"port {port}"):
            serve(replace(service, port=port))
    assert len(answers(service)) == len(ASKED)


def test_a_command_that_the_engine_does_not_take_ends_with_its_reason(make: Make, plan: ServePlan) -> None:
    with pytest.raises(EngineError, match="unrecognized arguments: --no-such-option"):
        serve(make(argv=[*plan.argv, "--no-such-option"]))


def test_garbage_is_answered_with_status_200(make: Make) -> None:
    right = answers(make())
    assert answers(make(environment={"LAB_FAULT": "garbage"})) != right


def test_the_server_of_an_orchestrator_that_was_killed_is_adopted(make: Make, images: EngineImages) -> None:
    service = make()
    script = (
        "import sys, time; from pathlib import Path; from slipway.config.target import TargetConfig;"
        "from slipway.engines.driver import ServePlan; from slipway.engines.serving import Service, serve;"
        "bundle, plan, machine, work, model = sys.argv[1:];"
        "serve(Service(Path(bundle), ServePlan.model_validate_json(plan), TargetConfig.model_validate_json(machine),"
        " Path(work), Path(model)));"
        "print('serves', flush=True); time.sleep(3600)"
    )
    documents = [service.plan.model_dump_json(), service.machine.model_dump_json()]
    argv = [str(service.bundle), *documents, str(service.work), str(service.model)]
    with subprocess.Popen(
        [sys.executable, "-c", script, *argv], stdout=subprocess.PIPE, env=os.environ
    ) as orchestrator:
        assert orchestrator.stdout is not None and orchestrator.stdout.readline() == b"serves\n"
        orchestrator.send_signal(signal.SIGKILL)
    before = names(images)
    endpoint = serve(service)
    try:
        assert (endpoint.adopted, names(images), len(before)) == (True, before, 1)
        with ChatClient(endpoint.url, endpoint.model, 60) as client:
            assert client.ask([{"role": "user", "content": ASKED[0]}], 4).completion_tokens
    finally:
        stop(endpoint)


def test_a_server_that_is_killed_while_serving_ends_in_an_error_with_its_log(make: Make, images: EngineImages) -> None:
    endpoint = serve(make())
    images.lab.podman("kill", "--signal", "KILL", endpoint.job.name)
    deadline = time.monotonic() + 60
    while endpoint.ended() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(EngineError, match="died"):
        endpoint.check_alive()
    stop(replace(endpoint))
