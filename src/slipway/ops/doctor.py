"""Is this machine ready, and if not, what to do. Looks only: nothing is changed, no model library is imported."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psutil

from slipway.config.deploy import DeployConfig
from slipway.config.engine import EngineConfig
from slipway.config.load import Config
from slipway.engines.llamacpp.build import Build, build_id, find_tools, is_complete
from slipway.engines.llamacpp.cpu_flags import unknown_to
from slipway.errors import ResourceError
from slipway.ops.credentials import FILE, read_credentials
from slipway.ops.endpoint_check import endpoint
from slipway.ops.remote_check import remote_rows
from slipway.ops.services import Services
from slipway.ops.surroundings import PROXY_VARIABLES, require_usable_proxies, require_writable
from slipway.system import installed
from slipway.system.http import base_url, is_healthy, is_loopback
from slipway.system.ports import is_free, require_allowed

GB = 1e9
PYTHON = (3, 11)
# GB. The embedded run writes about 3 GB; the one-time engine build adds 1.
DISK_FAIL, DISK_WARN = 4.0, 8.0
# GB. Training the embedded model peaks near 2.5.
MEMORY_FAIL, MEMORY_WARN = 3.0, 4.5
CGROUP = Path("/sys/fs/cgroup")
Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One check: its name, its status, what was found there (`finding`), and what to do about it (empty when well)."""

    name: str
    status: Status
    finding: str
    advice: str

    def to_json(self) -> dict[str, str]:
        """The check as JSON values."""
        return {"name": self.name, "status": self.status, "found": self.finding, "advice": self.advice}


def check(config: Config) -> list[Check]:
    """Every check, in the order in which a person would mend things."""
    gpus = _gpus()
    cache = Path(os.path.expanduser(config.store.cache))  # noqa: PTH111 - a home that nobody knows stays `~`
    return [
        python(sys.version_info[:3]),
        *packages(),
        torch(gpus, installed.torch_build()),
        gpu(gpus),
        *engine(config.engine, cache),
        disk("store", Path(config.store.root)),
        disk("cache", cache),
        memory(_available_memory()),
        proxies(os.environ),
        credentials(Services.here()),
        service("Prefect", *_prefect(), "/api/health", "SLIPWAY_PREFECT_PORT"),
        service("MLflow", *_address(config.tracking.uri.get_secret_value()), "/health", "SLIPWAY_MLFLOW_PORT"),
        deploy_ports(config.deploy),
        Check("endpoint", *endpoint(config.deploy)),
        *(Check(*row) for row in remote_rows(config.remote)),
    ]


def python(version: tuple[int, ...]) -> Check:
    """Whether this Python is one that Slipway supports."""
    finding = ".".join(map(str, version))
    if version[:2] < PYTHON:
        return Check(
            "python",
            "fail",
            finding,
            f"use python {'.'.join(map(str, PYTHON))} or newer: `make PYTHON=python3.11 setup`",
        )
    return Check("python", "ok", f"{finding} on {platform.machine()}", "")


def packages() -> list[Check]:
    """One check an extra: present, and at the version that it asks for."""
    checks = []
    for extra, requirements in installed.extras().items():
        missing, others = installed.wrong(requirements)
        if extra in installed.OPTIONAL_EXTRAS and missing and not others:
            checks.append(
                Check(
                    f"packages: {extra}",
                    "ok",
                    f"not installed: {', '.join(missing)}",
                    "not needed to ship on this machine",
                )
            )
        elif missing or others:
            finding = "; ".join([*([f"missing: {', '.join(missing)}"] if missing else []), *others])
            lock = "requirements-test.lock" if extra == "test" else "requirements.lock"
            checks.append(Check(f"packages: {extra}", "fail", finding, f"`pip install -r {lock}`"))
        else:
            checks.append(Check(f"packages: {extra}", "ok", f"{len(requirements)} as asked for", ""))
    return checks


def torch(gpus: list[str], build: tuple[str, str | None] | None) -> Check:
    """Whether torch can be imported, and its version."""
    if build is None:
        return Check(
            "torch build",
            "fail",
            "not installed",
            "`pip install -r requirements.lock`, or run stages on another machine",
        )
    version, cuda = build
    finding = f"{version}, {f'CUDA {cuda}' if cuda else 'CPU only'}"
    if gpus and not cuda:
        return Check(
            "torch build", "warn", f"{finding}, with a GPU here", "install a CUDA build of torch to use the GPU"
        )
    return Check("torch build", "ok", finding, "")


def gpu(gpus: list[str]) -> Check:
    """The GPUs that the driver shows."""
    return Check("GPU", "ok", "; ".join(gpus) or "none: training and the engine run on the CPU", "")


def engine(params: EngineConfig, cache: Path) -> list[Check]:
    """The tools that build `llama-server`, and whether it is built already for this version, CPU and compiler."""
    try:
        tools = find_tools()
    except ResourceError as err:
        return [Check("engine tools", "fail", str(err.value), err.next_step)]
    build = Build(cache / "engines" / build_id(params, tools))
    finding = (
        f"built: {build.root}"
        if is_complete(build)
        else "not built yet: the first run does it, about 8 minutes on 2 cores"
    )
    return [
        Check("engine tools", "ok", f"{tools.cxx}, {tools.cmake}", ""),
        Check(f"engine {params.kind}", "ok", finding, ""),
        *instructions(tools.cxx),
    ]


def instructions(cxx: str) -> list[Check]:
    """On Arm, whether the compiler knows the instructions of this processor; the engine is right without them, and
    slower."""
    if unknown := unknown_to(cxx):
        advice = "install a newer compiler (Ubuntu: g++-14) and set CXX to it; the engine is then built again"
        return [Check("engine instructions", "warn", f"{cxx} cannot compile {', '.join(unknown)}", advice)]
    return []


def disk(name: str, path: Path) -> Check:
    """Room on the file system that holds `path`, which need not exist yet."""
    there = path.resolve()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free / GB
    finding = f"{free:.1f} GB free for {path}"
    if not os.access(there, os.W_OK):
        return Check(
            f"disk: {name}",
            "fail",
            f"{there} is not writable",
            f"set store.{'root' if name == 'store' else 'cache'} elsewhere",
        )
    if free < DISK_WARN:
        setting = "store.root" if name == "store" else "store.cache"
        status: Status = "fail" if free < DISK_FAIL else "warn"
        return Check(
            f"disk: {name}",
            status,
            finding,
            f"free space or set {setting} to another disk; {DISK_WARN:.0f} GB is comfortable",
        )
    return Check(f"disk: {name}", "ok", finding, "")


def memory(available: float) -> Check:
    """`available` in bytes."""
    finding = f"{available / GB:.1f} GB available"
    if available / GB < MEMORY_WARN:
        status: Status = "fail" if available / GB < MEMORY_FAIL else "warn"
        return Check(
            "memory",
            status,
            finding,
            f"close programs: training the embedded model peaks near {MEMORY_FAIL - 0.5:.1f} GB",
        )
    return Check("memory", "ok", finding, "")


def service(name: str, host: str, port: int, health: str, variable: str) -> Check:
    """A server that answers is well; so is a free port, for `make up` will take it. A stranger on the port is not."""
    if is_healthy(f"{base_url(host, port)}{health}") if is_loopback(host) else _reachable(host, port):
        return Check(name, "ok", f"answers at {host}:{port}", "")
    if not is_loopback(host):
        return Check(name, "fail", f"{host}:{port} does not answer", "start it, or mend tracking.uri")
    if is_free(host, port):
        return Check(name, "ok", f"not running; port {port} is free", "`make up` starts it")
    advice = f"see who it is with `ss -ltnp`, stop it, or choose another port: {variable}={port + 1}"
    return Check(name, "fail", f"port {port} is held by something else", advice)


def proxies(environment: Mapping[str, str]) -> Check:
    """A SOCKS proxy needs a package; any other is used for the world outside, never for loopback."""
    try:
        require_usable_proxies(environment)
    except ResourceError as err:
        return Check("proxies", "fail", f"{err.thing}={err.value}", err.next_step)
    names = sorted(name for name, value in environment.items() if name.lower() in PROXY_VARIABLES and value)
    return Check("proxies", "ok", f"{', '.join(names)}: never for loopback" if names else "none", "")


def credentials(services: Services) -> Check:
    """The services folder and the file with the credentials of Prefect and MLflow, which `make up` creates."""
    try:
        require_writable("SLIPWAY_SERVICES", str(services.data))
        if not (services.data / FILE).exists():
            return Check("credentials", "ok", "none yet", "`make up` creates them")
        read_credentials(services.data)
    except ResourceError as err:
        return Check("credentials", "fail", f"{err.thing}: {err.value}", err.next_step)
    return Check("credentials", "ok", str(services.data / FILE), "")


def deploy_ports(params: DeployConfig) -> Check:
    """A promotion needs one free port beside the serving engine's."""
    first, last = params.ports
    try:
        free = sum(is_free(params.host, p) for p in range(first, last + 1))
    except ResourceError as err:
        return Check(
            "deploy ports", "fail", f"{err.thing}: {err.value}", "set deploy.host to an address of this machine"
        )
    try:
        if free == 0:
            require_allowed(params.host, last)
    except ResourceError as err:
        return Check("deploy ports", "fail", f"{err.thing}: {err.value}", f"set deploy.ports to {err.expected}")
    finding = f"{free} of {last - first + 1} free in {first}..{last}"
    if free == 0:
        return Check("deploy ports", "fail", finding, "stop what listens there (`ss -ltnp`), or set deploy.ports")
    return Check("deploy ports", "ok", finding, "")


def _gpus() -> list[str]:
    """Name, memory and compute capability of each NVIDIA GPU, as nvidia-smi tells."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, encoding="utf-8")
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def _available_memory() -> float:
    """Bytes: what the system has left, or the container's limit when that is less."""
    available = float(psutil.virtual_memory().available)
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.exists() and (text := limit.read_text(encoding="utf-8").strip()) != "max":
        return min(available, float(text) - float(used.read_text(encoding="utf-8")))
    return available


def _prefect() -> tuple[str, int]:
    return _address(
        os.environ.get("PREFECT_API_URL") or f"http://127.0.0.1:{os.environ.get('SLIPWAY_PREFECT_PORT') or 4200}"
    )


def _address(uri: str) -> tuple[str, int]:
    parts = urlsplit(uri)
    return parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)


def _reachable(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False
