"""C++ of ours, compiled for the processor at hand when it is first needed, and kept.

    ~/.cache/slipway/native/<digest>.so     (XDG_CACHE_HOME in place of ~/.cache)

The digest covers the source, the compiler and its version, its options and the processor's instructions, so that a home
directory may be shared by machines that differ. Where nothing can be kept, it is compiled for this process alone; where
there is no compiler, or none that takes the source, there is no library, and the caller has another way.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from slipway.system.files import canonical, sha256_bytes
from slipway.system.processor import compiler_version, cpu_digest

# Bits do not depend on these: no sum is reordered, no rounding dropped, no subnormal flushed.
_OPTIONS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
_NATIVE = "-march=native"  # some compilers do not know it on some processors; then the architecture's baseline
_TIMEOUT_S = 300


def compiler() -> str | None:
    """The C++ compiler: `$CXX` (default g++), or clang++; None where there is none."""
    return next((path for cxx in (os.environ.get("CXX", "g++"), "clang++") if (path := shutil.which(cxx))), None)


def library(source: Path) -> ctypes.CDLL | None:
    """The shared library of a C++ file, compiled or from the cache; calls release the GIL. None where it cannot be
    made."""
    cxx = compiler()
    return None if cxx is None else _library(source, cxx, _cache())


@functools.cache
def _library(source: Path, cxx: str, cache: Path) -> ctypes.CDLL | None:
    try:
        document = [source.read_text(encoding="utf-8"), cxx, compiler_version(cxx), _OPTIONS, _NATIVE, cpu_digest()]
        file = cache / f"{source.stem}-{sha256_bytes(canonical(document))[:24]}.so"
        return _open(file) or _compile(source, cxx, file)
    except (OSError, subprocess.SubprocessError):
        return None


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - an unknown home stays ~
    return Path(home) / "slipway" / "native"


def _open(file: Path) -> ctypes.CDLL | None:
    """The library in a file; None where it is not there, cut short, or another user's."""
    try:
        return ctypes.CDLL(str(file)) if file.stat().st_uid == os.getuid() else None
    except OSError:
        return None


def _compile(source: Path, cxx: str, file: Path) -> ctypes.CDLL | None:
    """Compile beside `file` and move it there: another process sees the whole library or none."""
    with tempfile.TemporaryDirectory(prefix="slipway-native-") as scratch:
        folder = Path(scratch)
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = Path(tempfile.mkdtemp(prefix=f".{file.stem}-", dir=file.parent))
        except OSError:  # no home, or one that cannot be written: for this process alone
            return _open(made) if (made := _run(source, cxx, folder)) else None
        try:
            made = _run(source, cxx, folder)
            return _open(made.replace(file)) if made else None
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _run(source: Path, cxx: str, folder: Path) -> Path | None:
    """The compiled file in `folder`, or None."""
    out = folder / "library.so"
    for options in ((*_OPTIONS, _NATIVE), _OPTIONS):
        command = [cxx, *options, "-o", str(out), str(source)]
        if subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S).returncode == 0:
            return out
    return None
