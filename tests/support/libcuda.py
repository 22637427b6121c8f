"""A driver of a GPU that is not here: the calls of libcuda that `agent/gpu_limits.py` makes, with their contract (0 on
success, 2 when memory is out), compiled; it gives `blocks` blocks and then no more."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = """
#include <stddef.h>
#include <stdint.h>
static int given = 0;
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &given; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxSetCurrent(void *context) { return context == &given ? 0 : 201; }
int cuMemAlloc_v2(uint64_t *pointer, size_t bytes) {
    if (given >= BLOCKS) return 2;
    *pointer = 0x700000000000ull + (uint64_t)given++ * bytes;
    return 0;
}
int cuMemsetD8_v2(uint64_t pointer, unsigned char value, size_t count) { return pointer >> 44 == 7 ? 0 : 1; }
int cuCtxSynchronize(void) { return 0; }
int cuMemFree_v2(uint64_t pointer) { return pointer >> 44 == 7 ? 0 : 1; }
"""


def compiled_driver(folder: Path, blocks: int, init: int = 0) -> Path:
    """The folder of a `libcuda.so.1` that gives this many blocks; `init`: what cuInit answers."""
    folder.mkdir(exist_ok=True)
    source = folder / "driver.c"
    source.write_text(f"#define BLOCKS {blocks}\n#define INIT {init}\n{SOURCE}")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source)], check=True)
    return folder
