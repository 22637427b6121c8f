"""An 8B model and its adapter to a written NVFP4 checkpoint on one GPU, beside PEFT + nvidia-modelopt and the machine's
ceilings.

`python -m benchmarks.gpu_stream --work DIR [--memory-work DIR]`, some 4 minutes on an H100; 45 GB of disk in DIR.

Inputs lie in the page cache for both. `call_s` is what is compared: the whole call, kernels loaded from their cache,
the result flushed to disk; the start of Python and the imports are `process_s - call_s`. The peer does not flush. With
`--memory-work` (a tmpfs) ours also writes there, where the disk is no ceiling. `of_ceiling`: input bytes a second over
the ceiling of the step that each byte passes, output bytes for writing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.cpu_stream import gb
from benchmarks.measure import ROUTES, Figures, RunFailedError, emit, interleaved, peer_modelopt, prepared, run, say
from benchmarks.synthetic import SHAPES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, required=True, help="everything is written here; the model stays for the next run"
    )
    parser.add_argument("--memory-work", type=Path, help="a folder in memory, for output only")
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--format", choices=("nvfp4a16", "nvfp4"), default="nvfp4a16")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--compile", nargs="+", choices=("auto", "on", "off"), default=["auto", "on"], help="`ours` is with the first"
    )
    parser.add_argument("--workers", type=int, nargs="*", default=[], help="other numbers of workers to try, once each")
    parser.add_argument("--routes", nargs="*", choices=ROUTES, default=ROUTES)
    args = parser.parse_args()
    emit(f"gpu_stream_{args.format}", Bench(args).figures())


class Bench:
    """One invocation."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._work = args, args.work.resolve()
        self._work.mkdir(parents=True, exist_ok=True)
        self._folder = prepared(args.shape, self._work, args.device)
        self._errors: dict[str, str] = {}

    def figures(self) -> Figures:
        ceilings = self._or_error("ceilings", self._ceilings)
        cold = (
            self._or_error("cold", lambda: self._ours(self._work / "out", compiled="on"))
            if "on" in self._args.compile
            else {}
        )
        runs = {"ours": lambda: self._ours(self._work / "out")}
        if self._args.memory_work:
            runs["ours_into_memory"] = lambda: self._ours(self._args.memory_work.resolve() / "slipway-out")
        runs |= {
            f"ours_compile_{mode}": lambda mode=mode: self._ours(self._work / "out", compiled=mode)
            for mode in self._args.compile[1:]
        }
        ours = self._or_error("ours", lambda: interleaved(runs, self._args.repeats))
        fmt = self._args.format
        peers = {
            route: self._or_error(route, lambda route=route: peer_modelopt(route, self._folder, self._work, fmt))
            for route in self._args.routes
        }
        tried = {
            f"{n}_workers": self._or_error(f"{n}_workers", lambda n=n: self._ours(self._work / "out", n))
            for n in self._args.workers
        }
        return {
            "format": self._args.format,
            "shape": self._args.shape,
            "input_gb": gb(self._folder),
            **ours,
            "other_workers": tried,
            "compile_s": cold.get("warm_up_s"),
            "peft_and_modelopt": peers,
            "ceilings_gb_per_s": ceilings,
            "of_ceiling": shares(ours["ours"], gb(self._folder), ceilings) if ours else {},
            "errors": self._errors,
            "times_faster": {
                r: {n: round(p["call_s"] / o["call_s"], 1) for n, o in ours.items()}
                for r, p in peers.items()
                if p and ours
            },
        }

    def _or_error(self, name: str, make: Callable[[], Figures]) -> Figures:
        """A part that fails is named in the result, and the rest is measured all the same."""
        try:
            say(f"{name} begins")
            figures = make()
        except (RunFailedError, OSError) as err:
            self._errors[name] = str(err)
            say(f"{name} failed: {err}")
            return {}
        say(f"{name}: {figures}")
        return figures

    def _ceilings(self) -> Figures:
        command = [
            sys.executable,
            "-m",
            "benchmarks.ceilings",
            str(self._folder / "model"),
            str(self._work),
            "--gb",
            str(self._ceiling_gb()),
        ]
        figures = run(command + (["--cuda"] if self._args.device == "cuda" else []), self._work / "log")
        return {name: value for name, value in figures.items() if not name.endswith(("_gb", "_s"))}

    def _ceiling_gb(self) -> float:
        return min(4.0, gb(self._folder))

    def _ours(self, out: Path, workers: int | None = None, compiled: str | None = None) -> Figures:
        shutil.rmtree(out, ignore_errors=True)
        command = [
            sys.executable,
            "-m",
            "benchmarks.ours",
            self._folder / "model",
            "--adapter",
            self._folder / "adapter",
            "--out",
            out,
        ]
        command += ["--compile", compiled or self._args.compile[0]]
        command += ["--calibration", self._folder / "calibration.jsonl"] if self._args.format == "nvfp4" else []
        settings = {"format": self._args.format, "device": self._args.device}
        for key, value in {**settings, **({"workers": workers} if workers else {})}.items():
            command += ["--set", f"{key}={value}"]
        try:
            return run(
                [*map(str, command)], self._work / "log", env={"TORCHINDUCTOR_CACHE_DIR": str(self._work / "kernels")}
            )
        finally:
            shutil.rmtree(out, ignore_errors=True)


def shares(ours: Figures, input_gb: float, ceilings: Figures) -> dict[str, float]:
    """Ours over what the machine can do at most, step by step."""
    read = ours["gb_per_s"]
    written = read * ours["bytes"] / 1e9 / input_gb
    passed = {
        "page_cache_read_8_threads": read,
        "host_to_device_pinned": read,
        "device_to_host_pageable": written,
        "write_and_fsync": written,
    }
    return {name: round(rate / ceilings[name], 3) for name, rate in passed.items() if name in ceilings}


if __name__ == "__main__":
    main()
