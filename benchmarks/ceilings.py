"""What the machine can do at most, measured beside a benchmark that is held against it; prints one JSON line, GB/s.

`python -m benchmarks.ceilings MODEL_DIR WORK [--cuda]`: reads MODEL_DIR's shards from the page cache, writes and
deletes files in WORK, copies between host and GPU. Every figure is the best of three.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

_CHUNK = 1 << 25  # bytes a system call
_THREADS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--gb", type=float, default=4.0, help="bytes of each measurement, at most")
    args = parser.parse_args()
    limit = int(args.gb * 1e9)
    rates = reads(args.model, limit) | writes(args.work, limit) | (copies(limit) if args.cuda else {})
    print(json.dumps({name: float(f"{value:.3g}") for name, value in rates.items()}))


def best(nbytes: int, act: Callable[[], object]) -> float:
    rates = []
    for _ in range(3):
        start = time.monotonic()
        act()
        rates.append(nbytes / 1e9 / (time.monotonic() - start))
    return max(rates)


def reads(model: Path, limit: int) -> dict[str, float]:
    """preadv of shards that lie in the page cache, one thread and several, each into a buffer that it uses again."""
    files = [(os.open(file, os.O_RDONLY), file.stat().st_size) for file in sorted(model.glob("*.safetensors"))]
    chunks = [(fd, at, min(_CHUNK, size - at)) for fd, size in files for at in range(0, size, _CHUNK)][
        : max(1, limit // _CHUNK)
    ]
    nbytes = sum(length for _, _, length in chunks)

    buffers = [memoryview(bytearray(_CHUNK)) for _ in range(_THREADS)]

    def read(i: int, threads: int) -> None:
        for fd, at, length in chunks[i::threads]:
            os.preadv(fd, [buffers[i][:length]], at)

    rates = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for threads in (1, _THREADS):
            rates[f"page_cache_read_{threads}_threads"] = best(
                nbytes, lambda n=threads: list(pool.map(read, range(n), [n] * n))
            )
    for fd, _ in files:
        os.close(fd)
    return rates


def writes(work: Path, limit: int) -> dict[str, float]:
    """New files, several at a time: into the page cache, and down to the disk."""
    each = max(_CHUNK, limit // _THREADS // _CHUNK * _CHUNK)
    files = [work / f"ceiling-{i}" for i in range(_THREADS)]

    def write(file: Path, flush: bool) -> None:
        data = memoryview(bytearray(os.urandom(1 << 16)) * (_CHUNK >> 16))
        with file.open("wb", buffering=0) as f:
            for _ in range(each // _CHUNK):
                f.write(data)
            if flush:
                os.fsync(f.fileno())

    def all_files(flush: bool) -> None:
        for file in files:
            file.unlink(missing_ok=True)
        list(pool.map(lambda file: write(file, flush), files))

    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            total = each * _THREADS
            return {
                "write": best(total, lambda: all_files(False)),
                "write_and_fsync": best(total, lambda: all_files(True)),
            }
        finally:
            for file in files:
                file.unlink(missing_ok=True)


def copies(limit: int) -> dict[str, float]:
    """Host to device and back, pinned and pageable, 32 MiB at a time."""
    device = torch.empty(_CHUNK, dtype=torch.uint8, device="cuda")
    times = max(1, limit // _CHUNK)
    rates = {}
    for kind in ("pinned", "pageable"):
        host = torch.ones(_CHUNK, dtype=torch.uint8, pin_memory=kind == "pinned")
        for name, target, source in (("host_to_device", device, host), ("device_to_host", host, device)):
            rates[f"{name}_{kind}"] = best(
                times * _CHUNK, lambda target=target, source=source: copy(target, source, times)
            )
    return rates


def copy(target: torch.Tensor, source: torch.Tensor, times: int) -> None:
    for _ in range(times):
        target.copy_(source, non_blocking=True)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
