"""A server as a container of a real engine, as a job of a real Slurm, and behind a real ssh: started, asked, adopted,
stopped. What is served is a scripted server: which engine it is makes no difference here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.config.target import SlurmConfig, TargetConfig
from slipway.engines.bundle import SERVE
from slipway.engines.chat_client import ChatClient
from slipway.engines.driver import CacheSpec, Limits, ServePlan
from slipway.engines.endpoint import Endpoint
from slipway.engines.serving import Service, serve, service_of, serving, stop
from slipway.errors import EngineError
from slipway.runners.docker_container import list_jobs
from slipway.system.http import is_healthy
from slipway.system.tunnel import open_tunnel
from tests.lab.podman_lab import INFRA, PodmanLab
from tests.lab.slurm_lab import SlurmLab
from tests.support import scripted_server

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


def plan(python: str, image: str | None = None, *, code: str = "pass") -> ServePlan:
    """A server that writes into its cache when it starts; `code` runs first."""
    start = f"import os, runpy, sys; {code}; open(os.environ['THE_CACHE'], 'w').write('warm'); sys.argv[:1] = []; "
    start += "runpy.run_path(sys.argv[0], run_name='__main__')"
    return ServePlan(
        kind="vllm",
        image=image,
        argv=[python, "-c", start, "{bundle}/server.py", "--host", "{host}", "--port", "{port}"],
        caches=[CacheSpec(name="one", path="one", variable="THE_CACHE")],
        limits=Limits(context=64, slots=1),
        stop_s=5,
    )


def bundle(folder: Path, what: ServePlan) -> Path:
    """A bundle of the scripted server."""
    folder.mkdir(parents=True)
    shutil.copy(Path(scripted_server.__file__), folder / "server.py")
    (folder / SERVE).write_text(what.model_dump_json())
    return folder


def answers(endpoint: Endpoint) -> str:
    with ChatClient(endpoint.url, endpoint.model, 60) as client:
        return client.ask([{"role": "user", "content": "say it works"}], 8).text


@pytest.fixture
def container(podman_lab: PodmanLab, tmp_path: Path) -> Service:
    """A service in the lab's container engine."""
    image = f"{podman_lab.image.repository}@{podman_lab.image.digests[podman_lab.arch]}"
    made = bundle(tmp_path / "bundle", plan("python3", image))
    return service_of(made, podman_lab.target(), tmp_path / "work")


def test_a_container_serves_from_its_own_cache_and_leaves_nothing(podman_lab: PodmanLab, container: Service) -> None:
    with serving(container) as endpoint:
        assert answers(endpoint) == "it works"
        assert (container.work / "start" / "cache" / "one").read_text() == "warm"
        assert [(c.name, c.state) for c in list_jobs(podman_lab.host)] == [(endpoint.job.name, "running")]
    assert list_jobs(podman_lab.host) == []
    assert "listening on" in endpoint.job.log.read_text()
    assert sorted(file.name for file in container.bundle.iterdir()) == [SERVE, "server.py"]


def test_a_container_that_was_left_behind_is_adopted(podman_lab: PodmanLab, container: Service) -> None:
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom slipway.config.target import TargetConfig\n"
        "from slipway.engines.serving import serve, service_of\n"
        "serve(service_of(Path(sys.argv[1]), TargetConfig.model_validate_json(sys.argv[2]), Path(sys.argv[3])))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    arguments = [str(container.bundle), container.machine.model_dump_json(), str(container.work)]
    subprocess.run([sys.executable, "-c", program, *arguments], check=False, timeout=300)
    (left,) = list_jobs(podman_lab.host)
    with serving(container) as endpoint:
        assert (endpoint.adopted, endpoint.job.name) == (True, left.name)
        assert answers(endpoint) == "it works"
    assert list_jobs(podman_lab.host) == []


def test_a_container_that_dies_while_it_loads_is_named_with_its_log(
    podman_lab: PodmanLab, container: Service, tmp_path: Path
) -> None:
    dies = plan("python3", container.plan.image, code="sys.exit('CUDA error: no kernel image')")
    with pytest.raises(EngineError, match=r"(?s)died \(exit code 1\).*no kernel image"):
        serve(service_of(bundle(tmp_path / "dies", dies), container.machine, tmp_path / "w"))
    assert list_jobs(podman_lab.host) == []


def test_a_slurm_job_serves_on_its_node(slurm_lab: SlurmLab, tmp_path: Path) -> None:
    runner = SlurmConfig(kind="slurm", container=False, poll_s=0.25, lease_s=6, patience_s=60)
    made = bundle(tmp_path / "bundle", plan(sys.executable))
    endpoint = serve(service_of(made, TargetConfig(name="lab", runner=runner), tmp_path / "work"))
    try:
        assert answers(endpoint) == "it works"
        assert (tmp_path / "work" / "start" / "cache" / "one").read_text() == "warm"
        assert slurm_lab.job_ids(endpoint.job.name)
    finally:
        stop(endpoint)
    states = slurm_lab.ask("squeue", "--noheader", "--format=%j %T").splitlines()
    assert [line for line in states if line.startswith(endpoint.job.name) and "RUNNING" in line] == []


@pytest.fixture
def far(podman_lab: PodmanLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """A machine behind a real sshd: its network namespace, and its address. OpenSSH asks the password file for its
    home, so its config is given to it."""
    command = [INFRA / "podman" / "ssh-up", podman_lab.folder]
    up = subprocess.run(command, env=podman_lab.env, capture_output=True, text=True, check=False)
    if up.returncode == 4:
        pytest.skip(f"lab podman: ssh: not run: {up.stderr.strip()}")
    assert up.returncode == 0, up.stderr
    space, host = up.stdout.split()
    home = podman_lab.folder / "ssh" / "home" / ".ssh"
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {home}/config -o UserKnownHostsFile={home}/known_hosts "$@"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    yield space, host
    subprocess.run([*command, "down"], env=podman_lab.env, check=True)


def test_a_port_of_a_far_loopback_is_reached_and_a_cut_link_ends_the_tunnel(far: tuple[str, str]) -> None:
    space, host = far
    command = ["ip", "netns", "exec", space, sys.executable, str(scripted_server.__file__), "--host", "127.0.0.1"]
    with subprocess.Popen([*command, "--port", "8000"], stderr=subprocess.PIPE) as server:
        try:
            assert server.stderr is not None
            server.stderr.readline()
            tunnel = open_tunnel(host, 8000)
            wait = threading.Event()
            while not is_healthy(f"http://127.0.0.1:{tunnel.port}/health"):
                assert tunnel.is_open
                wait.wait(0.05)
            subprocess.run(["ip", "link", "set", space, "down"], check=True)
            while tunnel.is_open:
                wait.wait(0.2)
            assert tunnel.message()
            tunnel.close()
        finally:
            server.kill()
