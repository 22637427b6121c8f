"""The processor at hand: which instructions it has, and a digest of them for what is compiled for it."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path

from slipway.system.files import sha256_bytes

CPUINFO = Path("/proc/cpuinfo")
_DECIDING = ("flags", "Features", "CPU implementer", "CPU part")


@functools.cache
def cpu_digest() -> str:
    """First 12 hex digits of sha256 over architecture and the words of /proc/cpuinfo that decide which instructions are
    compiled."""
    return sha256_bytes(f"{platform.machine()} {' '.join(sorted(set(_cpu_words())))}".encode())[:12]


def _cpu_words() -> list[str]:
    """`flags` (x86), or `Features` with implementer and part numbers of each kind of core (Arm); none without
    cpuinfo."""
    return [word for name, words in _cpuinfo() if name in _DECIDING for word in words]


def cpu_features() -> frozenset[str]:
    """What every core of this machine has, as Linux names it: `avx2`, `asimddp`. Cores of two kinds may differ."""
    cores = [frozenset(words) for name, words in _cpuinfo() if name in ("flags", "Features")]
    return frozenset.intersection(*cores) if cores else frozenset()


def _cpuinfo() -> list[tuple[str, list[str]]]:
    """(name, words) of each line of /proc/cpuinfo."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.exists() else []
    return [(name.strip(), value.split()) for name, _, value in (line.partition(":") for line in lines)]


def compiler_version(compiler: str) -> str:
    """First line of `compiler --version`."""
    return subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.splitlines()[0]
