"""What an engine is valid for: CPU, compiler, engine version."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path

from slipway.config.engine import EngineConfig
from slipway.system.files import sha256_bytes


def engine_fingerprint(params: EngineConfig) -> dict[str, str]:
    """What, beside inputs and params, an engine is valid for; it goes into the stage key. Cheap, needs no torch."""
    return {
        "arch": platform.machine(),
        "cpu": cpu_digest(),
        "engine": f"{params.kind} {params.package} {params.version}",
    }


@functools.cache
def cpu_digest() -> str:
    """First 12 hex digits of sha256 over architecture and CPU feature flags, which decide what `-march=native` compiles
    to.
    """
    return sha256_bytes(f"{platform.machine()} {' '.join(sorted(set(_cpu_flags())))}".encode())[:12]


def _cpu_flags() -> list[str]:
    """`flags` (x86) or `Features` and part number (ARM) of /proc/cpuinfo; empty where there is none."""
    info = Path("/proc/cpuinfo")
    flags: list[str] = []
    for line in info.read_text().splitlines() if info.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features", "CPU part"):
            flags += value.split()
    return flags


def compiler_version(compiler: str) -> str:
    """First line of `compiler --version`."""
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
