"""Which instructions llama.cpp is compiled for, by machine, by what its kernel reports and by what the compiler
knows."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from slipway.engines.llamacpp.build import flags
from slipway.engines.llamacpp.cpu_flags import arm_architecture, cpu_arguments, unknown_to
from slipway.system import processor

SPARK = (
    "Features\t: fp asimd fphp asimdhp asimdrdm asimddp sve asimdfhm sve2 svei8mm svebf16 i8mm bf16\nCPU part\t: "
    "0xd85\n"
)
GRAVITON2 = "Features\t: fp asimd fphp asimdhp asimdrdm asimddp\nCPU part\t: 0xd0c\n"
CORTEX_A72 = "Features\t: fp asimd aes crc32\nCPU part\t: 0xd08\n"


def compiler(folder: Path, *known: str) -> str:
    """A compiler that knows these features of Arm and refuses every other."""
    script = folder / "c++"
    accepted = "\n".join(f"*'-march=armv8.2-a+{name} '*) exit 0 ;;" for name in known)
    script.write_text(
        f'#!/bin/sh\ncase "$* " in\n{accepted}\n*) echo "invalid feature modifier" >&2; exit 1 ;;\nesac\n'
    )
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    def become(name: str, cpuinfo: str) -> None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
        monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(platform, "machine", lambda: name)

    return become


@pytest.mark.parametrize("name", ["aarch64", "arm64"])
@pytest.mark.parametrize(
    "cpuinfo, known, wanted",
    [
        (SPARK, ["dotprod", "fp16", "i8mm", "sve", "sve2"], "armv8.2-a+dotprod+fp16+i8mm+sve+sve2"),
        (SPARK, ["dotprod", "fp16"], "armv8.2-a+dotprod+fp16"),  # a compiler older than i8mm
        (SPARK, [], "armv8-a"),
        (GRAVITON2, ["dotprod", "fp16", "i8mm", "sve", "sve2"], "armv8.2-a+dotprod+fp16"),
        (CORTEX_A72, ["dotprod", "fp16", "i8mm", "sve", "sve2"], "armv8-a"),
        (SPARK + CORTEX_A72, ["dotprod", "fp16", "i8mm", "sve", "sve2"], "armv8-a"),  # what every core has
        ("", ["dotprod"], "armv8-a"),
    ],
)
def test_arm_is_compiled_for_what_the_kernel_reports_and_the_compiler_knows(
    tmp_path, machine, name, cpuinfo, known, wanted
):
    machine(name, cpuinfo)
    assert cpu_arguments(compiler(tmp_path, *known)) == ("-DGGML_NATIVE=OFF", f"-DGGML_CPU_ARM_ARCH={wanted}")


def test_what_the_cores_have_and_the_compiler_does_not_know_is_named(tmp_path, machine):
    machine("aarch64", SPARK)
    assert unknown_to(compiler(tmp_path, "dotprod", "fp16", "sve")) == ["i8mm", "sve2"]
    machine("aarch64", CORTEX_A72)
    assert unknown_to(compiler(tmp_path)) == []
    machine("x86_64", SPARK)
    assert unknown_to(compiler(tmp_path)) == []


def test_x86_asks_the_processor(machine):
    machine("x86_64", "flags\t: fpu avx2 asimddp\n")
    assert cpu_arguments("no-such-compiler") == ("-DGGML_NATIVE=ON",)


def test_all_of_cmakes_arguments_name_the_instructions_once(tmp_path, machine):
    machine("aarch64", SPARK)
    arguments = flags(compiler(tmp_path, "dotprod"))
    assert len(set(arguments)) == len(arguments)
    assert [a for a in arguments if a.startswith(("-DGGML_NATIVE", "-DGGML_CPU"))] == [
        "-DGGML_NATIVE=OFF",
        "-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod",
    ]


def test_this_machines_compiler_knows_no_arm_unless_it_is_one():
    wanted = "armv8.2-a+dotprod" if platform.machine() in ("aarch64", "arm64") else "armv8-a"
    assert arm_architecture("c++", frozenset(["asimddp"])) == wanted
