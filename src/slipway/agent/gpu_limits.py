"""How many bytes of a GPU a program gets, by taking them: the verb `gpu_limits`.

What a data sheet says is not what a program gets: of a Spark's 128 GB some 101 to 106 GiB, by kit. A child process
takes blocks of 256 MiB with the driver's own allocator, writes each of them, until it is refused or, where GPU and CPU
share the memory, MemAvailable would fall under `floor`; then it ends, and everything is free again. Its own CUDA
context is beside what it counts.

Nothing but libcuda is needed: cuInit, cuDeviceGet, cuDevicePrimaryCtxRetain, cuCtxSetCurrent, cuMemAlloc, cuMemsetD8.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note

BLOCK = 256 << 20
MOST_S = 300.0
_REFUSED = "the driver gives no more"
_FLOOR = "MemAvailable would fall under the floor"


def gpu_limits(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (every verb has this shape)
    """`{"unified": bool, "floor": bytes}` -> `{"gpus": [{"bytes", "stopped"}]}`, each GPU in its turn, bytes that a
    program got. Raises ResourceError where there is no driver or it fails, and where the child ends otherwise."""
    from slipway.errors import ResourceError

    program = resources.files("slipway.agent").joinpath("gpu_limits.py").read_text(encoding="utf-8")
    words = [sys.executable, "-c", program, "unified" if document.get("unified") else "own"]
    try:
        done = subprocess.run(
            [*words, str(int(document.get("floor", 0)))],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=MOST_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise ResourceError("memory of the GPU", str(err), f"an answer within {MOST_S:.0f} s", "look at it") from err
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ResourceError("memory of the GPU", last[:300], "a driver that gives memory", "`nvidia-smi` there")
    return dict(json.loads(done.stdout))


def measure(unified: bool, floor: int) -> dict[str, Any]:
    """The child's work. Raises OSError without a driver, RuntimeError for one that refuses at once."""
    driver = ctypes.CDLL("libcuda.so.1")
    _call(driver, "cuInit", 0)
    count = ctypes.c_int()
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    return {"gpus": [_fill(driver, number, unified, floor) for number in range(count.value)]}


def _fill(driver: ctypes.CDLL, number: int, unified: bool, floor: int) -> dict[str, Any]:
    """Take blocks of one GPU until it refuses or the floor is near; they are given back at the end."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _call(driver, "cuDeviceGet", ctypes.byref(device), number)
    _call(driver, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    _call(driver, "cuCtxSetCurrent", context)
    blocks: list[ctypes.c_uint64] = []
    stopped = _REFUSED
    while True:
        if unified and available() < floor + BLOCK:
            stopped = _FLOOR
            break
        block = ctypes.c_uint64()
        if driver.cuMemAlloc_v2(ctypes.byref(block), ctypes.c_size_t(BLOCK)):
            break
        blocks.append(block)
        if driver.cuMemsetD8_v2(block, ctypes.c_ubyte(1), ctypes.c_size_t(BLOCK)) or driver.cuCtxSynchronize():
            blocks.pop()  # given, and not there when it is written
            break
    for block in blocks:
        driver.cuMemFree_v2(block)
    driver.cuDevicePrimaryCtxRelease_v2(device)
    return {"bytes": len(blocks) * BLOCK, "stopped": stopped}


def available() -> int:
    """MemAvailable, bytes."""
    text = Path("/proc/meminfo").read_text(encoding="utf-8")
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _call(driver: ctypes.CDLL, name: str, *arguments: Any) -> None:
    if code := getattr(driver, name)(*arguments):
        raise RuntimeError(f"{name} gives error {code} of CUDA")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1] == "unified", int(sys.argv[2]))))
