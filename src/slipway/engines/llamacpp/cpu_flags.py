"""How ggml's kernels are compiled for the CPU at hand: cmake's arguments, by architecture.

x86-64: GGML_NATIVE, which is `-march=native`: it asks the processor itself.

Arm: a `-march` of the features that Linux reports. `-mcpu=native` goes by a list of part numbers, and a compiler older
than the core (gcc 13 of a DGX Spark's Ubuntu beside its Cortex-X925 and A725) may not have them: it then compiles for
plain Armv8-A and says nothing, and ggml's own probes (`-mcpu=native+dotprod`) fail as well. A feature that the compiler
does not know is left out; one that any of the cores lacks is, too. OpenMP is cmake's choice on both: without libgomp
ggml uses its own threads.
"""

from __future__ import annotations

import functools
import platform
import subprocess

from slipway.system.processor import cpu_features

# As Linux names it in `Features` -> as compilers do. What ggml has kernels for, in the order in which they are written.
ARM_FEATURES = {
    "asimddp": "dotprod",
    "asimdhp": "fp16",
    "i8mm": "i8mm",
    "sve": "sve",
    "sve2": "sve2",
}
ARM_MACHINES = ("aarch64", "arm64")


def cpu_arguments(cxx: str) -> tuple[str, ...]:
    """The arguments of cmake that choose the instructions of this machine's kernels; `cxx` is the compiler that has to
    know them. Raises OSError when it does not run."""
    if platform.machine() not in ARM_MACHINES:
        return ("-DGGML_NATIVE=ON",)
    return ("-DGGML_NATIVE=OFF", f"-DGGML_CPU_ARM_ARCH={arm_architecture(cxx, cpu_features())}")


def arm_architecture(cxx: str, features: frozenset[str]) -> str:
    """`armv8.2-a+dotprod+fp16+...`: a value of -march with those of `features`, named as Linux does, that ggml uses and
    `cxx` knows; `armv8-a` where none is left."""
    known = [name for name in _wanted(features) if _compiles(cxx, name)]
    return "+".join(["armv8.2-a", *known]) if known else "armv8-a"


def unknown_to(cxx: str) -> list[str]:
    """What this machine's cores have, ggml has kernels for and `cxx` cannot compile; nothing on machines that are not
    Arm."""
    if platform.machine() not in ARM_MACHINES:
        return []
    return [name for name in _wanted(cpu_features()) if not _compiles(cxx, name)]


def _wanted(features: frozenset[str]) -> list[str]:
    return [name for reported, name in ARM_FEATURES.items() if reported in features]


@functools.cache
def _compiles(cxx: str, feature: str) -> bool:
    command = [cxx, f"-march=armv8.2-a+{feature}", "-x", "c++", "-fsyntax-only", "/dev/null"]
    return subprocess.run(command, capture_output=True).returncode == 0
