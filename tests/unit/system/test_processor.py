"""What is compiled for a processor depends on its instructions and its kinds of cores, and on nothing else."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipway.system import processor
from slipway.system.processor import cpu_digest, cpu_features

# In /proc/cpuinfo's form, a DGX Spark's GB10: Cortex-A725 (0xd87) and Cortex-X925 (0xd85), one core of each.
SPARK = """processor	: 0
BogoMIPS	: 2000.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 \
asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm sb paca pacg dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 \
frint svei8mm svebf16 i8mm bf16 dgh bti ecv afp wfxt
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd87
CPU revision	: 1

processor	: 5
BogoMIPS	: 2000.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 \
asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm sb paca pacg dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 \
frint svei8mm svebf16 i8mm bf16 dgh bti ecv afp wfxt
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd85
CPU revision	: 1
"""


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Another machine for the rest of the test: its architecture and its /proc/cpuinfo; gives its digest."""

    def become(machine: str, cpuinfo: str) -> str:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
        monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(platform, "machine", lambda: machine)
        cpu_digest.cache_clear()
        return cpu_digest()

    yield become
    cpu_digest.cache_clear()


def test_an_arm_cpu_has_a_digest_of_its_features_and_its_kinds_of_cores(cpu: Callable[[str, str], str]) -> None:
    spark = cpu("aarch64", SPARK)
    assert cpu("aarch64", SPARK.replace(" i8mm ", " ")) != spark
    assert cpu("aarch64", SPARK.replace("0xd85", "0xd4f")) != spark
    assert cpu("aarch64", SPARK.replace("0x41", "0x4e")) != spark
    assert cpu("aarch64", SPARK.replace("BogoMIPS	: 2000.00", "BogoMIPS	: 1999.00")) == spark
    assert cpu("aarch64", SPARK + SPARK) == spark


def test_features_are_those_of_every_core(cpu: Callable[[str, str], str]) -> None:
    cpu("aarch64", SPARK)
    assert {"asimddp", "sve2", "i8mm"} <= cpu_features()
    cpu("aarch64", SPARK + SPARK.replace(" sve2 ", " "))
    assert "sve2" not in cpu_features() and "i8mm" in cpu_features()
    cpu("x86_64", "processor : 0\nflags : fpu avx2\n\nprocessor : 1\nflags : fpu avx2 avx512f\n")
    assert cpu_features() == {"fpu", "avx2"}


def test_a_machine_without_cpuinfo_still_has_a_digest(
    cpu: Callable[[str, str], str], tmp_path: Path, monkeypatch
) -> None:
    empty = cpu("arm64", "")
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "nowhere")
    cpu_digest.cache_clear()
    assert cpu_digest() == empty and cpu_features() == frozenset()
