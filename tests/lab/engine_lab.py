"""The lab's engines: `vllm`, `trtllm-serve` and `trtllm-build` laid out in one folder with weights that they serve.

The programs are those of tests/lab/engine_programs; llama.cpp's own converter makes the weights, and its server
answers. The folder serves as it stands (the Slurm lab binds it), and infra/lab/engines/build makes images of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.image import ImageConfig
from slipway.config.store import StoreConfig
from slipway.config.target import TargetConfig
from slipway.containers.images import read_digests
from slipway.engines.llamacpp.build import Build, ensure_build
from slipway.engines.llamacpp.convert import convert
from slipway.system.progress import Progress
from tests.lab.engine_programs.lab_engine.trtllm import LINES
from tests.lab.engine_programs.lab_engine.vllm import VERSION
from tests.lab.engine_programs.lab_engine.weights import digest
from tests.lab.podman_lab import PodmanLab
from tests.support.pico import pico_model

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
    (folder / "lib").mkdir()
    for name in ("bash", "rm"):  # what a build script needs beyond the trainer's image
        shutil.copy2(Path(shutil.which(name) or f"/bin/{name}").resolve(), folder / "bin" / name)
    for program in (build.server, folder / "bin" / "bash", folder / "bin" / "rm"):
        _copy_libraries(program, folder / "lib")
    _write_packages(folder / "packages")
    (folder / "weights").mkdir()
    for model in models:
        add_weights(folder, model, build)
    return folder


def add_weights(folder: Path, model: Path, build: Build) -> None:
    """Convert a model directory into the weights of a folder that `lay_out` filled."""
    convert(build, model, folder / "weights" / f"{digest(model)}.gguf", "bf16")


def _write_packages(out: Path) -> None:
    """What a probe of the machine reads of installed packages: metadata alone, and the CUDA version in torch's text.
    TensorRT-LLM's is that of the release line, in a folder of its own."""
    versions = {"vllm": VERSION, "torch": "2.11.0", "triton": "3.6.0", "flashinfer-python": "0.6.1"}
    folders = {out / "all": versions, **{out / line: {"tensorrt_llm": v} for line, v in LINES.items()}}
    folders[out / "1.2"]["tensorrt"] = "10.13.3"
    for folder, packages in folders.items():
        for name, version in packages.items():
            metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
            metadata.parent.mkdir(parents=True)
            metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (out / "all" / "torch").mkdir()
    (out / "all" / "torch" / "__init__.py").write_text('"""No torch: only its version."""\n')
    (out / "all" / "torch" / "version.py").write_text("cuda = '13.0'\n")


def _copy_libraries(program: Path, out: Path) -> None:
    """What the program links to beyond the C library, which every image has of its own."""
    linked = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"=> (/\S+/lib(?:gomp|stdc\+\+|gcc_s|tinfo|selinux|pcre)\S*)", linked):
        shutil.copy2(Path(library).resolve(), out / Path(library).name)


@dataclass(frozen=True)
class EngineImages:
    """The images of infra/lab/engines in the container lab's registry, and the one model that they serve. `folder`:
    what the images hold, which serves without a container too."""

    lab: PodmanLab
    model: Path
    folder: Path

    def image(self, tag: str, contract: str) -> ImageConfig:
        """A row of conf/images.yaml for the image `tag`, pinned."""
        row = ImageConfig(repository=f"{self.lab.registry}/lab/engines", tag=tag, contract=contract)
        return row.model_copy(update={"digests": read_digests(row)})

    def target(self, **more: Any) -> TargetConfig:
        """A machine with the lab's container engine, planned as one H100."""
        gpu = {"gpus": 1, "gpu_memory_gb": 80, "compute_capability": "sm_90", "formats": ["fp8"]}
        return self.lab.target(**{**gpu, **more})


@pytest.fixture(scope="session")
def engine_images(podman_lab: PodmanLab, tmp_path_factory: pytest.TempPathFactory) -> EngineImages:
    """Built of the programs and a pico model, and pushed to the lab's registry."""
    folder = tmp_path_factory.mktemp("engines")
    model = pico_model(folder / "pico", seed=5)
    programs = lay_out(folder / "programs", [model])
    base = f"{podman_lab.image.repository}:{podman_lab.arch}"
    built = subprocess.run(
        [BUILD, programs, base, f"{podman_lab.registry}/lab/engines"],
        env=podman_lab.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return EngineImages(podman_lab, model, programs)
