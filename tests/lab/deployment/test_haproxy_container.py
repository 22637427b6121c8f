"""HAProxy out of a container that its image's digest names: the same switches, and nothing of it stays."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.agent.haproxy.process import find_haproxy
from slipway.config.proxy import ProxyConfig
from tests.support.nemo import wait_for
from tests.support.switch_site import SwitchSite

PODMAN = Path(__file__).parents[3] / "infra" / "lab" / "podman"


@pytest.fixture
def image(haproxy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """This machine's HAProxy as an image of a registry, named by digest."""
    if os.getuid() != 0:
        pytest.skip("lab podman: not run: it needs root")
    folder = Path(tempfile.mkdtemp(prefix="slp-", dir="/tmp"))  # short: a unix socket's path is
    monkeypatch.setenv("SLIPWAY_LAB_PODMAN", str(folder))
    up = subprocess.run([PODMAN / "up"], capture_output=True, text=True, check=False)
    if up.returncode == 4:
        shutil.rmtree(folder)
        pytest.skip(f"lab podman: not run: {up.stderr.strip()}")
    assert up.returncode == 0, up.stderr
    try:
        shown = ["bash", "-c", f". {folder}/env && env -0"]
        environment = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
        for pair in environment.split("\0"):
            if pair.startswith(("CONTAINER", "STORAGE", "LAB_", "REGISTR", "TMPDIR", "DOCKER")):
                monkeypatch.setenv(*pair.split("=", 1))
        yield built(root_of_haproxy(tmp_path / "root"), f"{os.environ['LAB_REGISTRY']}/lab/haproxy:1")
    finally:
        subprocess.run([PODMAN / "down"], check=True)


def root_of_haproxy(root: Path) -> Path:
    """A root file system with HAProxy and the libraries that it links to."""
    program = find_haproxy(("haproxy",))
    assert program is not None
    linked = subprocess.run(["ldd", program[0]], capture_output=True, text=True, check=True).stdout
    for file in [program[0], *re.findall(r"(/\S+)", linked)]:
        (root / file.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(file).resolve(), root / file.lstrip("/"))
    return root


def built(root: Path, name: str) -> str:
    """An image of this root, pushed; `repository@digest`."""

    def run(*argv: str | Path) -> str:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    container = run("buildah", "from", "scratch")
    run("buildah", "add", "-q", container, root, "/")
    run("buildah", "config", "--env", "PATH=/usr/sbin", container)
    made = run("buildah", "commit", "-q", "--rm", container)
    run("podman", "push", "-q", "--digestfile", root / "digest", made, f"docker://{name}")
    run("podman", "rmi", "-f", made)
    return f"{name.rpartition(':')[0]}@{(root / 'digest').read_text().strip()}"


def containers_of(image: str) -> str:
    """Ids of the containers of an image, those that ended too."""
    command = ["podman", "ps", "-aq", "--filter", f"ancestor={image}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_container_switches_as_a_process_does(image: str, tmp_path: Path) -> None:
    options = ("--rm", "--network=host", "--user=0", "--volume", "{folder}:{folder}", "--entrypoint=haproxy")
    config = ProxyConfig(command=("podman", "run", *options, image))
    with SwitchSite(tmp_path / "proxy", command=config.command) as site:
        site.serve("0001")
        site.beside("0002")
        assert site.serving is not None
        assert site.proxy.status()["serving"] == [["127.0.0.1", site.serving.port]]
        assert site.proxy.status()["others"] == []
        assert len(site.proxy.status()["pids"]) == 1 == len(containers_of(image).split())
        site.held("0003")
        assert not site.proxy.status()["held"]
        assert site.proxy.stop() == 1
    wait_for(lambda: not containers_of(image), 60)  # `--rm` removes it once its process has ended
