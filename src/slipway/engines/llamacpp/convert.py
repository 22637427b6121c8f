"""A model directory to the GGUF file that llama.cpp loads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slipway.engines.llamacpp.build import Build
from slipway.errors import EngineError, ResourceError
from slipway.runners.base import OFFLINE
from slipway.system import deferred_imports

# The script as Python starts it by its path, but for what transformers imports and no conversion uses
_START = (
    f"import os, runpy, sys; from {deferred_imports.__name__} import install; install(); del sys.argv[0]; "
    "sys.path.insert(0, os.path.dirname(sys.argv[0])); runpy.run_path(sys.argv[0], run_name='__main__')"
)


def convert(build: Build, model: Path, out: Path, outtype: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    """HF model directory -> GGUF by llama.cpp's own converter, in a process of its own. EngineError when it refuses.

    `outtype` (f16, bf16) is for tensors that are not quantized. The directory's name goes into the file's metadata:
    give it one that does not change from run to run. `meanwhile` runs in a thread while the converter does.
    """
    argv = [
        sys.executable,
        "-P",  # or modules of the folder that the command runs in would come before the installed ones
        "-c",
        _START,
        str(build.converter),
        str(model),
        "--outfile",
        str(out),
        "--outtype",
        outtype,
        "--model-name",
        model.name,
    ]
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(meanwhile)
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **OFFLINE, "PYTHONDONTWRITEBYTECODE": "1"},
            check=False,
            encoding="utf-8",
        )
        beside.result()
    if done.returncode == 0 and out.exists():
        return
    if "No space left on device" in done.stderr:
        raise ResourceError(
            "disk", f"full while converting to {out}", "room for the model", "free space, then run again"
        )
    cause = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    raise EngineError(
        f"conversion of {model.resolve()} to GGUF",
        f"{cause}: {_reason(done.stderr or done.stdout)}",
        "a model that llama.cpp can run",
        "check the model's architecture and quantization against llama.cpp's",
    )


def _reason(output: str) -> str:
    """What the converter says last: of a traceback the exception alone, with the lines of its message; else the last
    lines."""
    lines = output.strip().splitlines()
    traces = [n for n, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    if traces:
        after = [line for line in lines[traces[-1] + 1 :] if not line.startswith(" ")]  # frames are indented
        return "\n".join(after[:6]) or lines[-1]
    return "\n".join(lines[-6:])
