"""The build, for real, of a source archive that compiles in a second; tests/lab builds llama.cpp itself."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slipway.config.engine import EngineConfig
from slipway.engines.llamacpp import build
from slipway.errors import EngineError, ResourceError
from slipway.system.files import sha256_file
from slipway.system.locks import locked
from slipway.system.progress import Progress

CMAKE = """cmake_minimum_required(VERSION 3.16)
project(tiny CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_executable(llama-server main.cpp)
"""
MAIN = '#include <cstdio>\nint main() { std::puts("served"); }\n'
CONVERTER = """import sys, pathlib
from conversion import text
model, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[3])
if not (model / "config.json").exists():
    raise NotImplementedError("architecture Nope is not supported")
out.write_text(text + sys.argv[5])
"""


class Heard(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(every_s=0)
        self.events: list[dict[str, Any]] = []

    def _write(self, **event: Any) -> None:
        self.events.append(event)


def archive(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def source(main: str = MAIN) -> dict[str, str]:
    root = "pkg-1/vendor/llama.cpp"
    return {
        "pkg-1/setup.py": "raise SystemExit",
        f"{root}/CMakeLists.txt": CMAKE,
        f"{root}/main.cpp": main,
        f"{root}/LICENSE": "MIT",
        f"{root}/convert_hf_to_gguf.py": CONVERTER,
        f"{root}/conversion/__init__.py": "text = 'GGUF '",
        f"{root}/gguf-py/gguf.py": "",
    }


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def params_for(cache: Path, files: dict[str, str]) -> EngineConfig:
    """Params whose source archive lies in the cache already."""
    made = archive(cache.parent / "pkg-1.tar.gz", files)
    params = EngineConfig(package="pkg", version="1", sha256=sha256_file(made), build_jobs=1)
    folder = cache / "packages" / f"pkg-1-{params.sha256[:12]}"
    folder.mkdir(parents=True)
    made.rename(folder / made.name)
    return params


def test_built_once_and_complete(cache: Path) -> None:
    params = params_for(cache, source())
    (cache / "engines" / ".building" / "left").mkdir(parents=True)  # by a build that was killed
    heard = Heard()
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: build.ensure_build(params, cache, heard), range(2))
    assert one == two
    assert sum("building llama.cpp" in e.get("text", "") for e in heard.events) == 1
    steps = [e for e in heard.events if e["event"] == "progress"]
    assert steps
    assert steps[-1]["done"] == steps[-1]["total"]
    assert subprocess.run([one.server], capture_output=True, text=True, check=True).stdout == "served\n"
    assert sorted(p.name for p in one.root.iterdir()) == [
        "BUILD.json",
        "LICENSE",
        "conversion",
        "convert_hf_to_gguf.py",
        "gguf-py",
        "llama-server",
    ]
    assert json.loads((one.root / "BUILD.json").read_text())["sha256"] == params.sha256
    assert not (cache / "engines" / ".building").exists()

    one.server.unlink()  # damaged: made again
    assert build.ensure_build(params, cache, Progress()).server.exists()


def test_who_waits_for_a_build_says_so(cache: Path) -> None:
    params, heard = params_for(cache, source()), Heard()
    with ThreadPoolExecutor(1) as pool:
        with locked(cache / "engines" / ".lock", 0.0, "a build"):
            waiting = pool.submit(build.ensure_build, params, cache, heard)
            deadline = time.monotonic() + 60
            while not heard.events and time.monotonic() < deadline:
                time.sleep(0.02)
            assert "built by another stage" in heard.events[0]["text"]
        assert waiting.result().server.exists()


def test_a_compile_error_is_shown_and_leaves_nothing(cache: Path) -> None:
    params = params_for(cache, source(main="int main() { return nothing_of_that_name; }\n"))
    with pytest.raises(EngineError, match="nothing_of_that_name"):
        build.ensure_build(params, cache, Progress())
    assert sorted(p.suffix for p in (cache / "engines").iterdir() if p.name != ".lock") == [".log"]


def test_an_archive_without_llama_cpp_is_refused(cache: Path) -> None:
    params = params_for(cache, {"pkg-1/setup.py": ""})
    with pytest.raises(ResourceError, match=r"no vendor/llama\.cpp"):
        build.ensure_build(params, cache, Progress())


def test_no_member_leaves_the_folder(tmp_path: Path) -> None:
    evil = archive(tmp_path / "evil.tar.gz", {**source(), "pkg-1/vendor/llama.cpp/../../../../evil": "x"})
    with pytest.raises(ResourceError, match="outside the destination"):
        build.extract(evil, tmp_path / "a" / "b")
    assert not (tmp_path / "evil").exists()


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    whole = archive(tmp_path / "whole.tar.gz", source()).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResourceError, match=r"cut\.tar\.gz"):
        build.extract(tmp_path / "cut.tar.gz", tmp_path / "out")


def test_missing_tools_are_named_with_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ResourceError, match=r"cmake, c\+\+ or g\+\+ or clang\+\+, ninja or make not found.*apt-get"):
        build.find_tools()


def test_a_compiler_killed_for_memory_asks_for_fewer_jobs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("[ 3%] Building\nc++: fatal error: Killed signal terminated program cc1plus\n")
    assert "engine.build_jobs (now 2)" in build.build_failure(log, EngineConfig()).next_step


def test_a_full_disk_is_a_full_disk(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("fatal error: error writing to x.s: No space left on device\n")
    assert isinstance(build.build_failure(log, EngineConfig()), ResourceError)
