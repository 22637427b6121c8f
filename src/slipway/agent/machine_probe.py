"""What a machine and its Python are, printed as one JSON line: run where an engine runs, in its image or environment.

    python -c "$(cat machine_probe.py)" vllm

Standard library only, and no import of slipway: an engine's image has nothing else of this package. Nothing of CUDA is
initialised and no engine is imported (that takes a minute): versions are read from the installed packages' metadata,
torch's CUDA from the text of its `version.py`, the GPU from nvidia-smi. What cannot be read is left out.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

QUERY = "name,compute_cap,driver_version,memory.total"
UNKNOWN, NONE = "unknown", "none"
# Packages whose compiled or tuned output an engine caches, by its kind; the first is the engine's own
PACKAGES: dict[str, tuple[str, ...]] = {
    "llama.cpp": (),
    "vllm": ("vllm", "torch", "triton", "flashinfer-python"),
    "trtllm": ("tensorrt_llm", "torch", "triton", "flashinfer-python"),
    "trtllm-engine": ("tensorrt_llm", "torch", "tensorrt"),
}


def gpus() -> list[dict[str, str]]:
    """Name, compute capability, driver and memory (MiB) of each GPU that nvidia-smi lists; empty without nvidia-smi.
    Raises OSError, ValueError or subprocess.SubprocessError when nvidia-smi is there and does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    answer = subprocess.run(
        [program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        encoding="utf-8",
    ).stdout
    rows = [[value.strip() for value in line.split(",")] for line in answer.splitlines() if line.strip()]
    return [dict(zip(QUERY.split(","), row, strict=True)) for row in rows]


def installed(packages: list[str]) -> dict[str, str]:
    """Version of each of these packages that is installed."""
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def torch_cuda() -> str | None:
    """CUDA version that the installed torch is built for, `none` for a build without, None where there is no torch."""
    module = importlib.util.find_spec("torch")
    if module is None or not module.origin:
        return None
    text = Path(module.origin).with_name("version.py").read_text(encoding="utf-8")
    match = re.search(r"^cuda\b[^=]*=\s*(?:['\"]([^'\"]+)['\"]|None)", text, re.MULTILINE)
    return (match[1] or "none") if match else None


def cpu_words() -> list[str]:
    """Words of /proc/cpuinfo that decide which instructions are compiled, sorted; empty without the file."""
    deciding = ("flags", "Features", "CPU implementer", "CPU part")
    words: set[str] = set()
    file = Path("/proc/cpuinfo")
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        name, _, value = line.partition(":")
        words |= set(value.split()) if name.strip() in deciding else set()
    return sorted(words)


def cpu_digest(arch: str, words: list[str]) -> str | None:
    """12 hex digits over what `cpu_words` gives, as an engine that is compiled for a CPU carries them
    (`system/processor.py`); None without words."""
    return hashlib.sha256(f"{arch} {' '.join(words)}".encode()).hexdigest()[:12] if words else None


def gpu_facts(rows: list[dict[str, str]]) -> dict[str, str]:
    """What the key of caches holds of GPUs: `gpu`, `capability`, `gpu_memory`, `driver`; `none` each without one.
    Unlike cards under one server stand beside each other, sorted: which is rank 0 is not the cache's business."""
    if not rows:
        return dict.fromkeys(("gpu", "capability", "gpu_memory", "driver"), "none")

    def joined(key: str, prefix: str = "") -> str:
        return " + ".join(sorted({prefix + row[key] for row in rows}))

    return {
        "gpu": f"{len(rows)} x {joined('name')}",
        "capability": joined("compute_cap", "sm_").replace(".", ""),
        "gpu_memory": joined("memory.total"),
        "driver": joined("driver_version"),
    }


def package_facts(kind: str, document: dict[str, object]) -> dict[str, str]:
    """What the key of caches holds of an engine's Python, out of what `main` gave there: `engine`, `torch`, `cuda`,
    `compilers`, `python`; `none` for an engine without one, `unknown` for what could not be read."""
    packages, versions = PACKAGES[kind], document["versions"]
    assert isinstance(versions, dict)
    python = str(document["python"])
    if not packages:
        return {**dict.fromkeys(("engine", "torch", "cuda", "compilers"), NONE), "python": python}
    return {
        "engine": str(versions.get(packages[0], UNKNOWN)),
        "torch": str(versions.get("torch", UNKNOWN)),
        "cuda": str(document.get("torch_cuda") or UNKNOWN),
        "compilers": " ".join(f"{name}={versions.get(name, NONE)}" for name in packages[2:]),
        "python": python,
    }


def printed(output: str) -> dict[str, object] | None:
    """The document that this program printed, among whatever was printed around it; None without one."""
    for line in reversed(output.splitlines()):
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            continue
        inner = document.get("machine_probe") if isinstance(document, dict) else None
        if isinstance(inner, dict):
            return inner
    return None


def main(packages: list[str]) -> dict[str, object]:
    """Everything that can be read, as one document; `errors` says what could not, and why."""
    document: dict[str, object] = {
        "arch": platform.machine(),
        "python": platform.python_version(),
        "cpu_words": cpu_words(),
        "versions": installed(packages),
    }
    errors: dict[str, str] = {}
    for name, read in (("gpus", gpus), ("torch_cuda", torch_cuda)):
        try:
            document[name] = read()
        except (OSError, ValueError, subprocess.SubprocessError) as err:
            errors[name] = f"{type(err).__name__}: {err}"[:300]
    return {**document, "errors": errors}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"machine_probe": main(sys.argv[1:])}) + "\n")
