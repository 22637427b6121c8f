"""Memory of the machine at one moment, as the kernel counts it.

`MemAvailable` counts page cache that can be given up; `MemFree` does not, and is what CUDA is given on a machine where
CPU and GPU share the memory. The stall time is PSI's (Documentation/accounting/psi.rst): microseconds since boot in
which every task waited for memory. A kernel without PSI has none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import ResourceError

MEMINFO = Path("/proc/meminfo")
PRESSURE = Path("/proc/pressure/memory")
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
COMPACT = Path("/proc/sys/vm/compact_memory")


@dataclass(frozen=True)
class MemoryReading:
    """Bytes available and free; `stalled_s`: seconds since boot in which all tasks waited for memory, None where the
    kernel does not count them. `at`: seconds of the caller's clock."""

    at: float
    available: float
    free: float
    stalled_s: float | None


def read_memory(at: float, meminfo: Path = MEMINFO, pressure: Path = PRESSURE) -> MemoryReading:
    """One reading. Raises ResourceError when `meminfo` cannot be read or has not both figures."""
    try:
        text = meminfo.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as err:
        raise _unreadable(meminfo, type(err).__name__) from err
    values = {name: int(kilobytes) * 1024.0 for name, kilobytes in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}
    if not {"MemAvailable", "MemFree"} <= values.keys():
        raise _unreadable(meminfo, "no MemAvailable or no MemFree")
    return MemoryReading(at, values["MemAvailable"], values["MemFree"], _stalled(pressure))


def drop_caches(drop: Path = DROP_CACHES, compact: Path = COMPACT) -> str | None:
    """Have the kernel give up its page cache and join what is free; why it could not, or None."""
    try:
        drop.write_text("1\n", encoding="ascii")
        compact.write_text("1\n", encoding="ascii")
    except OSError as err:
        return f"{err.filename}: {err.strerror}"
    return None


def _stalled(pressure: Path) -> float | None:
    try:
        match = re.search(r"^full .*total=(\d+)", pressure.read_text(encoding="ascii"), re.M)
    except (OSError, UnicodeDecodeError):
        return None
    return int(match[1]) / 1e6 if match else None


def _unreadable(file: Path, why: str) -> ResourceError:
    return ResourceError(f"memory figures {file}", why, "a Linux kernel's", "check that /proc is mounted")
