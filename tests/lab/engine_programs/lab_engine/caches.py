"""Cache files as vLLM and TensorRT-LLM write them, and what a start does with the ones that it finds.

A step whose files are there and whole takes WARM of its time; else it is done, for LAB_COMPILE_S seconds, and the files
are written. A truncated compile entry ends the start with a traceback, as vLLM's does (vllm#18956).
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

WARM = 0.05  # of a cold step's time


def compile_seconds() -> float:
    """Time of the whole cold compilation; LAB_COMPILE_S."""
    return float(os.environ.get("LAB_COMPILE_S", "2"))


def folder(variable: str, default: str) -> Path:
    """Where the environment leads a cache, else below the home directory."""
    return Path(os.environ.get(variable) or Path.home() / ".cache" / default)


def compile_hash(factors: Any) -> str:
    """vLLM's ten digits of everything that a compiled graph depends on by its own account."""
    return hashlib.sha256(json.dumps(factors, sort_keys=True, default=str).encode()).hexdigest()[:10]


def torch_compile(key: str, rank: int) -> tuple[bool, Path]:
    """vLLM's compile step: whether its entry was there, and the entry's folder."""
    entry = folder("VLLM_CACHE_ROOT", "vllm") / "torch_compile_cache" / key / f"rank_{rank}_0" / "backbone"
    table = entry / "vllm_compile_cache.py"
    if table.is_file():
        for name, size in ast.literal_eval(table.read_text()).items():
            if len((entry / name).read_bytes()) != size:
                raise EOFError(f"Ran out of input: {entry / name}")
        time.sleep(compile_seconds() * 0.6 * WARM)
        return True, entry
    time.sleep(compile_seconds() * 0.6)
    artifacts = {f"artifact_compile_range_1_2048_subgraph_{n}": _body(f"{key}.{n}") for n in range(3)}
    entry.mkdir(parents=True, exist_ok=True)
    for name, body in {"computation_graph.py": b"# graph\n", **artifacts}.items():
        (entry / name).write_bytes(body)
    table.write_text(repr({name: len(body) for name, body in artifacts.items()}))
    return False, entry


def kernels(variable: str, default: str, name: str, suffix: str) -> bool:
    """One JIT kernel in a cache by content (Triton, CUDA, inductor): whether it was there."""
    place = folder(variable, default) / hashlib.sha256(name.encode()).hexdigest()[:26]
    file = place / f"{name}.{suffix}"
    if file.is_file() and file.read_bytes() == _body(name):
        time.sleep(compile_seconds() * 0.1 * WARM)
        return True
    time.sleep(compile_seconds() * 0.1)
    place.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_body(name))
    return False


def flashinfer(op: str, arch: str) -> bool:
    """FlashInfer's JIT by ninja, which judges by modification times: an object older than its source is made again."""
    base = Path(os.environ.get("FLASHINFER_WORKSPACE_BASE") or Path.home())
    place = base / ".cache" / "flashinfer" / "0.6.1" / arch / "cached_ops" / op
    source, built = place / f"{op}.cu", place / f"{op}.so"
    if built.is_file() and source.is_file() and built.stat().st_mtime_ns >= source.stat().st_mtime_ns:
        return True
    time.sleep(compile_seconds() * 0.1)
    place.mkdir(parents=True, exist_ok=True)
    source.write_text(f"// {op}\n")
    (place / "build.ninja").write_text(f"build {op}.so: nvcc {op}.cu\n")
    built.write_bytes(_body(op))
    return False


def autotuner(file: Path | None, ops: list[str], device: str, version: str) -> tuple[int, bool]:
    """TensorRT-LLM's tactics: how many there are after warm-up, and whether the file supplied them.

    Version and device are written and never checked on load (TensorRT-LLM#17664).
    """
    if file is not None and file.is_file():
        known = json.loads(file.read_text())
        time.sleep(compile_seconds() * WARM)
        return len(known["shared"]) + len(known["rank_0"]), True
    time.sleep(compile_seconds())
    metadata = {"lib_version": version, "device_name": device, "device_capability": [9, 0]}
    tactics = {f"({op}, 'Runner', ((8,),))": [0, len(op), 0.01] for op in ops}
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.{os.getpid()}")
        part.write_text(json.dumps({"metadata": metadata, "shared": tactics, "rank_0": {}}))
        part.replace(file)
    return len(tactics), False


def _body(name: str) -> bytes:
    """Some kilobytes that follow from the name."""
    return b"".join(hashlib.sha256(f"{name}{n}".encode()).digest() for n in range(128))
