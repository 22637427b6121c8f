"""Whether this machine has what the room and the benchmarks import: `python -m tests.gpu.check` lists versions and what
fails to load."""

import importlib
import pkgutil
import sys
from importlib.metadata import PackageNotFoundError, version

import slipway

NEEDED = [
    "modelopt.torch.quantization",
    "modelopt.torch.export",
    "peft",
    "pytest",
    "pytest_timeout",
    "safetensors",
    "tokenizers",
    "triton",
]
BENCHMARKS = [
    "benchmarks.gpu_stream",
    "benchmarks.seventy_b",
    "benchmarks.ceilings",
    "benchmarks.peer_modelopt",
    "benchmarks.ours",
]
PACKAGES = [
    "torch",
    "triton",
    "transformers",
    "peft",
    "nvidia-modelopt",
    "accelerate",
    "safetensors",
    "pydantic",
    "omegaconf",
    "typer",
    "rich",
]
ELSEWHERE = {
    "prefect",
    "mlflow",
    "dvc",
    "httpx",
    "gguf",
    "bitsandbytes",
    "matplotlib",
}  # what no quantizing process imports


def main() -> int:
    say("python", sys.version.split()[0], {name: version_of(name) for name in PACKAGES})
    modules = [f"slipway.{module.name}" for module in pkgutil.walk_packages(slipway.__path__)]
    missing = [name for name in [*modules, *NEEDED, *BENCHMARKS] if not loads(name)]
    say("all load" if not missing else f"do not load: {', '.join(missing)}")
    return bool(missing)


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def loads(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError as err:
        say(f"{name}: {err}")
        return (err.name or "").split(".")[0] in ELSEWHERE
    return True


if __name__ == "__main__":
    sys.exit(main())
