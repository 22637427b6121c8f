"""What a command, a stage and a pass over weights may load before they work: counted in modules, in a process of
each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.pipeline.stage import STAGES
from tests.support.pico import pico_adapter, pico_model

ROOT = Path(__file__).resolve().parents[2]
TORCH = {"torch", "numpy", "safetensors"}
NETWORK = {"transformers", "tokenizers", "peft", "bitsandbytes", "accelerate", "modelopt"}
COMPILER = {"torch._dynamo", "torch._inductor", "sympy", "scipy", "triton"}
CLIENTS = {"docker", "paramiko", "httpx", "requests"}
ORCHESTRATORS = {"prefect", "mlflow", "dvc"}
CONFIG = {"omegaconf", "antlr4", "yaml", "slipway.config.load"}
WORKS = TORCH | NETWORK | COMPILER | CLIENTS | ORCHESTRATORS  # what a command that only looks never needs
_REPORT = "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr)); "


def loaded(code: str) -> set[str]:
    """The modules that a fresh process has loaded when it has run `code`."""
    ran = subprocess.run([sys.executable, "-c", _REPORT + code], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return set(json.loads(ran.stderr.splitlines()[-1]))


def command(*words: str) -> set[str]:
    return loaded(f"import sys; sys.argv = ['slipway', *{words!r}]; from slipway.cli.app import main; main()")


@pytest.fixture(scope="module")
def import_torch() -> set[str]:
    return loaded("import torch")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    pico_model(folder / "base")
    pico_adapter(folder / "adapter")
    return folder


def test_help_builds_no_config() -> None:
    modules = command("--help")
    assert modules & (WORKS | CONFIG | {"pydantic", "psutil", "cryptography", "packaging"}) == set()
    assert len(modules) < 420


@pytest.mark.parametrize(
    "name",
    ["run", "stage", "quantize", "merge", "tune", "config", "recipe", "status", "promote", "doctor", "build-engine"],
)
def test_help_of_a_command_loads_nothing_that_it_works_with(name: str) -> None:
    assert command(name, "--help") & (WORKS | CONFIG | {"psutil"}) == set()


@pytest.mark.parametrize("name", ["status", "config"])
def test_a_look_loads_no_library_that_works(name: str) -> None:
    modules = command(name)
    assert modules & (WORKS | {"markdown_it", "packaging"}) == set()
    assert {"pydantic", "omegaconf"} <= modules
    assert len(modules) < 605  # the agent of a target, which a look asks, is forty of them
    assert not modules & {
        f"slipway.cli.{other}_commands" for other in ("canary", "engine", "model", "speed", "training")
    }


@pytest.mark.parametrize("name, words", [("quantize", ["--format", "nvfp4a16"]), ("merge", [])])
def test_a_pass_over_weights_loads_torch_alone(
    name: str, words: list[str], model: Path, tmp_path: Path, import_torch: set[str]
) -> None:
    adapter = ["--adapter", str(model / "adapter")] if name == "quantize" else [str(model / "adapter")]
    modules = command(name, str(model / "base"), *adapter, *words, "--out", str(tmp_path / "out"), "--json")
    assert "torch" in modules
    assert modules & (NETWORK | COMPILER | CLIENTS | ORCHESTRATORS | {"jinja2", "huggingface_hub"}) == set()
    assert len(modules - import_torch) < 450


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_what_it_takes_and_makes_without_what_it_works_with(name: str) -> None:
    """Whoever asks for types and keys, as the orchestrator does, loads no library that the stage's function needs."""
    modules = loaded(f"from slipway.pipeline.stage import stage_spec; stage_spec({name!r})")
    assert f"slipway.stages.{name}" in modules
    asking = {"httpx"} if name in ("agent_eval", "answer_eval", "engine", "evaluate") else set()
    assert modules & (WORKS | CONFIG - {"yaml"}) <= asking
