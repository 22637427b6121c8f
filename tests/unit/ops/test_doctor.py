import importlib.util
import json
import platform
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slipway.config.deploy import DeployConfig
from slipway.config.engine import EngineConfig
from slipway.config.load import Config
from slipway.config.store import StoreConfig
from slipway.engines.llamacpp.build import build_id, find_tools
from slipway.ops import doctor
from slipway.ops.doctor import Check, check
from slipway.system import installed, processor
from slipway.system.ports import any_port
from tests.support.world import ROOT


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def free() -> int:
    return any_port()


def test_every_subject_is_checked_and_whoever_is_not_well_gets_advice(tmp_path: Path) -> None:
    checks = check(Config(store=StoreConfig(root=str(tmp_path), cache=str(tmp_path / "cache"))))
    names = " ".join(c.name for c in checks)
    for subject in (
        "python",
        "packages: train",
        "torch build",
        "GPU",
        "engine tools",
        "disk: store",
        "disk: cache",
        "memory",
    ):
        assert subject in names
    for subject in ("Prefect", "MLflow", "deploy ports"):
        assert subject in names
    assert [c for c in checks if c.status != "ok" and not c.advice] == []
    assert json.loads(json.dumps([c.to_json() for c in checks]))[0]["name"] == "python"


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from slipway.ops.doctor import check; from slipway.config.load import Config; check(Config());"
        "print([m for m in ('torch', 'transformers', 'prefect', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("version", "status"), [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((3, 13, 1), "ok")])
def test_python(version: tuple[int, ...], status: str) -> None:
    assert doctor.python(version).status == status


def test_packages_name_what_is_missing_and_what_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"peft": "0.20.0", "numpy": "2.4"}

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    wanted = [Requirement("peft>=0.21"), Requirement("numpy"), Requirement("torch>=2.11")]
    monkeypatch.setattr(installed, "VERSION", version)
    monkeypatch.setattr(
        installed, "extras", lambda: {"train": wanted, "test": [Requirement("pytest")], "data": [Requirement("numpy")]}
    )
    train, test, data = doctor.packages()
    assert (train.status, train.finding) == ("fail", "missing: torch; peft 0.20.0, needs >=0.21")
    assert "requirements.lock" in train.advice
    assert (test.status, test.finding) == ("ok", "not installed: pytest")
    assert data == Check("packages: data", "ok", "1 as asked for", "")


def test_an_install_of_the_shipping_lock_alone_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make ship` installs requirements.lock and asks doctor: an extra that the lock lacks must be an optional one."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lock if "==" in line)

    def version(name: str) -> str:
        if (pinned := pins.get(canonicalize_name(name))) is None:
            raise PackageNotFoundError(name)
        return pinned

    monkeypatch.setattr(installed, "VERSION", version)
    assert [check for check in doctor.packages() if check.status != "ok"] == []


def test_extras_are_those_of_pyproject() -> None:
    extras = installed.extras()
    assert {"base", "data", "train", "serve", "orchestrate", "test"} <= set(extras)
    assert "pydantic" in {r.name for r in extras["base"]}
    assert "bitsandbytes" in {r.name for r in extras["train"]}
    assert "bitsandbytes" not in {r.name for r in extras["base"]}


@pytest.mark.parametrize(
    ("gpus", "build", "status", "finding"),
    [
        ([], ("2.13.0+cpu", None), "ok", "CPU only"),
        (["H100, 81559 MiB, 9.0"], ("2.13.0+cpu", None), "warn", "with a GPU here"),
        (["H100, 81559 MiB, 9.0"], ("2.13.0", "13.0"), "ok", "CUDA 13.0"),
        ([], None, "fail", "not installed"),
    ],
)
def test_torch_build_must_suit_the_machine(
    gpus: list[str], build: tuple[str, str | None] | None, status: str, finding: str
) -> None:
    result = doctor.torch(gpus, build)
    assert result.status == status
    assert finding in result.finding


def test_the_torch_build_is_read_without_importing_it() -> None:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    version = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    assert installed.torch_build() == (version["__version__"], version["cuda"])


def test_gpus_are_those_that_nvidia_smi_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.gpu(doctor._gpus()).finding.startswith("none")
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'NVIDIA GB10, 122880 MiB, 12.1'\n")
    script.chmod(0o755)
    assert doctor.gpu(doctor._gpus()).finding == "NVIDIA GB10, 122880 MiB, 12.1"
    script.write_text("#!/bin/sh\necho 'no driver' >&2; exit 9\n")
    assert doctor.gpu(doctor._gpus()).finding.startswith("none")


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    (result,) = doctor.engine(EngineConfig(), tmp_path)
    assert result.status == "fail"
    assert "no-such-compiler" in result.finding
    assert "install a compiler" in result.advice


def test_a_build_counts_when_it_is_this_machines_and_complete(tmp_path: Path) -> None:
    params = EngineConfig()
    assert "not built yet" in doctor.engine(params, tmp_path)[1].finding
    build = tmp_path / "engines" / build_id(params, find_tools())
    build.mkdir(parents=True)
    for name in ("llama-server", "convert_hf_to_gguf.py", "BUILD.json"):
        assert "not built yet" in doctor.engine(params, tmp_path)[1].finding
        (build / name).touch()
    assert doctor.engine(params, tmp_path)[1].finding == f"built: {build}"


def test_a_compiler_older_than_an_arm_core_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\ncase "$*" in *+dotprod*|*+fp16*) exit 0 ;; *) exit 1 ;; esac\n')
    compiler.chmod(0o755)
    (tmp_path / "cpuinfo").write_text("Features : fp asimd asimdhp asimddp i8mm sve sve2\nCPU part : 0xd85\n")
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert doctor.instructions(str(compiler)) == []
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    (result,) = doctor.instructions(str(compiler))
    assert result.status == "warn" and "CXX" in result.advice
    assert result.finding == f"{compiler} cannot compile i8mm, sve, sve2"


@pytest.mark.parametrize(("free", "status"), [(1.0, "fail"), (5.0, "warn"), (50.0, "ok")])
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, status: str) -> None:
    usage = doctor.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=int(free * 1e9)))
    result = doctor.disk("store", tmp_path / "not" / "yet")
    assert result.status == status
    assert ("store.root" in result.advice) is (status != "ok")


@pytest.mark.parametrize(("available", "status"), [(1e9, "fail"), (4e9, "warn"), (16e9, "ok")])
def test_memory(available: float, status: str) -> None:
    assert doctor.memory(available).status == status


def test_a_container_limit_counts_when_it_is_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    whole = doctor._available_memory()
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor._available_memory() == pytest.approx(whole, rel=0.2)
    (tmp_path / "memory.max").write_text("100000\n")
    (tmp_path / "memory.current").write_text("40000\n")
    assert doctor._available_memory() == 60000


def test_a_free_port_is_well(free: int) -> None:
    well = doctor.service("Prefect", "127.0.0.1", free, "/api/health", "SLIPWAY_PREFECT_PORT")
    assert (well.status, well.advice) == ("ok", "`make up` starts it")


def test_a_stranger_on_the_port_is_not_well(tmp_path: Path, free: int) -> None:
    """A web server that knows nothing of /api/health."""
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", "-b", "127.0.0.1", str(free), "-d", str(tmp_path)],
        stderr=subprocess.DEVNULL,
    )
    try:
        while not doctor._reachable("127.0.0.1", free):
            assert server.poll() is None
        result = doctor.service("Prefect", "127.0.0.1", free, "/api/health", "SLIPWAY_PREFECT_PORT")
        (tmp_path / "health").write_text("OK")
        answers = doctor.service("MLflow", "127.0.0.1", free, "/health", "SLIPWAY_MLFLOW_PORT")
    finally:
        server.kill()
        server.wait()
    assert result.status == "fail"
    assert f"SLIPWAY_PREFECT_PORT={free + 1}" in result.advice
    assert answers.finding == f"answers at 127.0.0.1:{free}"


def test_a_promotion_needs_one_free_port(busy: int) -> None:
    result = doctor.deploy_ports(DeployConfig(ports=(busy, busy)))
    assert (result.status, result.finding) == ("fail", f"0 of 1 free in {busy}..{busy}")
