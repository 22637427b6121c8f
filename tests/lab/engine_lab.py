"""The lab's engines: `vllm`, `trtllm-serve` and `trtllm-build` laid out in one folder with weights that they serve.

The programs are those of tests/lab/engine_programs; llama.cpp's own converter makes the weights, and its server
answers. The folder serves as it stands (the Slurm lab binds it), and infra/lab/engines/build makes images of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from slipway.config.engine import EngineConfig
from slipway.config.store import StoreConfig
from slipway.engines.llamacpp.build import Build, ensure_build
from slipway.engines.llamacpp.convert import convert
from slipway.system.progress import Progress
from tests.lab.engine_programs.lab_engine.weights import digest

TESTS = Path(__file__).resolve().parents[1]
PROGRAMS = TESTS / "lab" / "engine_programs"
BUILD = TESTS.parent / "infra" / "lab" / "engines" / "build"


def llama_build() -> Build:
    """The llama.cpp of this machine, compiled at the first use."""
    return ensure_build(EngineConfig(), Path(StoreConfig().cache).expanduser(), Progress())


def lay_out(folder: Path, models: list[Path]) -> Path:
    """Fill `folder` with the programs, the contracts, llama-server with its libraries, and the weights of `models` (HF
    directories)."""
    shutil.copytree(PROGRAMS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for tool in ("trtllm", "vllm"):
        shutil.copytree(TESTS / "contracts" / tool, folder / "contracts" / tool)
    build = llama_build()
    shutil.copy2(build.server, folder / "llama-server")
    _copy_libraries(build.server, folder / "lib")
    (folder / "weights").mkdir()
    for model in models:
        add_weights(folder, model, build)
    return folder


def add_weights(folder: Path, model: Path, build: Build) -> None:
    """Convert a model directory into the weights of a folder that `lay_out` filled."""
    convert(build, model, folder / "weights" / f"{digest(model)}.gguf", "bf16")


def _copy_libraries(program: Path, out: Path) -> None:
    """What the program links to beyond the C library, which every image has of its own."""
    out.mkdir()
    linked = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"=> (/\S+/lib(?:gomp|stdc\+\+|gcc_s)\S*)", linked):
        shutil.copy2(Path(library).resolve(), out / Path(library).name)
