"""llama.cpp for a Spark's processor, on an x86-64 machine: configured by its own cmake files with a compiler for
aarch64, and its Arm kernels compiled. An emulated core runs what is compiled for it."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.store import StoreConfig
from slipway.engines.llamacpp.build import extract, find_tools, flags
from slipway.engines.llamacpp.cpu_flags import cpu_arguments
from slipway.system import processor
from slipway.system.packages import download
from slipway.system.progress import Progress

ROOT = Path(__file__).resolve().parents[3]
CXX = "aarch64-linux-gnu-g++"
SPARK = "Features : fp asimd asimdhp asimddp sve asimdfhm sve2 i8mm bf16\nCPU part : 0xd85\n"
OLD_ARM = "Features : fp asimd aes crc32\nCPU part : 0xd08\n"
KERNELS = "ggml/src/CMakeFiles/ggml-cpu.dir/ggml-cpu/arch/arm/quants.c.o"
TOOLCHAIN = f"""set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER {CXX})
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """llama.cpp as Slipway builds it, and the toolchain file beside it."""
    up = subprocess.run([ROOT / "infra/lab/arm/up"], capture_output=True, text=True, check=False)
    if up.returncode == 4:
        pytest.skip(f"lab arm: not run: {up.stderr.strip()}")
    assert up.returncode == 0, up.stderr
    params, folder = EngineConfig(), tmp_path_factory.mktemp("arm")
    cache = Path(StoreConfig().cache).expanduser()
    archive = download(params.package, params.version, params.sha256, source=True, cache=cache, progress=Progress())
    (folder / "aarch64.cmake").write_text(TOOLCHAIN)
    return extract(archive, folder / "source")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def become(cpuinfo: str) -> None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
        monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    return become


def configured(source: Path, build: Path) -> str:
    """What cmake says while it configures with Slipway's own arguments for the machine."""
    tools = find_tools()
    toolchain = (
        f"-DCMAKE_TOOLCHAIN_FILE={next(p for p in source.parents if (p / 'aarch64.cmake').is_file())}/aarch64.cmake"
    )
    command = [tools.cmake, "-S", str(source), "-B", str(build), *tools.generator, toolchain, *flags(CXX)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    return ran.stdout


def test_a_spark_gets_the_kernels_that_its_cores_have(source, machine, tmp_path):
    machine(SPARK)
    output = configured(source, tmp_path / "build")
    assert "ARM detected" in output and "-march=armv8.2-a+dotprod+fp16+i8mm+sve+sve2" in output
    for feature in ("DOTPROD", "MATMUL_INT8", "SVE", "FP16_VECTOR_ARITHMETIC", "FMA"):
        assert f"HAVE_{feature} - Success" in output
    tools = find_tools()
    target = ["ninja", "-C", str(tmp_path / "build"), KERNELS] if "Ninja" in tools.generator else None
    if target is None:  # make has no targets of single files at the top
        target = [
            "make",
            "-C",
            str(tmp_path / "build/ggml/src"),
            KERNELS.removeprefix("ggml/src/CMakeFiles/ggml-cpu.dir/"),
        ]
    ran = subprocess.run(target, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:]
    listing = ["aarch64-linux-gnu-objdump", "-d", str(tmp_path / "build" / KERNELS)]
    assembly = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    assert "ggml_vec_dot_nvfp4_q8_0" in assembly
    assert {"sdot", "smmla"} <= {word for line in assembly.splitlines() for word in line.split()}


def test_an_arm_core_without_any_of_them_is_configured_for_plain_armv8(source, machine, tmp_path):
    machine(OLD_ARM)
    output = configured(source, tmp_path / "build")
    assert "-march=armv8-a\n" in output and "HAVE_DOTPROD - Failed" in output and "HAVE_SVE - Failed" in output


@pytest.mark.parametrize("core, cpuinfo", [("max", SPARK), ("cortex-a72", OLD_ARM)])
def test_what_is_compiled_for_a_core_runs_on_it(source, machine, tmp_path, core, cpuinfo):
    """A dot product of bytes, vectorized by the compiler for the chosen -march, on an emulated core of that kind."""
    machine(cpuinfo)
    (march,) = (a.partition("=")[2] for a in cpu_arguments(CXX) if a.startswith("-DGGML_CPU_ARM_ARCH="))
    (tmp_path / "dot.cpp").write_text(
        "#include <cstdio>\n#include <cstdint>\nint main() { int8_t a[256], b[256]; int sum = 0;\n"
        "for (int i = 0; i < 256; i++) { a[i] = i % 11 - 5; b[i] = i % 7 - 3; }\n"
        'for (int i = 0; i < 256; i++) sum += a[i] * b[i];\nstd::printf("%d", sum); }\n'
    )
    subprocess.run([CXX, f"-march={march}", "-O3", "-static", "dot.cpp", "-o", "dot"], cwd=tmp_path, check=True)
    ran = subprocess.run(
        ["qemu-aarch64", "-cpu", core, "./dot"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) == sum((i % 11 - 5) * (i % 7 - 3) for i in range(256))
