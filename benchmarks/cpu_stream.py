"""Merge + NVFP4 in one pass on CPU cores, beside the same arithmetic in eager torch and llmcompressor's model_free_ptq.

`python -m benchmarks.cpu_stream --work DIR [--peer-python PYTHON]`, some 10 minutes on two cores, 8 GB of disk in DIR.

GB/s are of bf16 input over the pass: reading, merging, quantizing, hashing, writing, flushing. `call_s` has planning,
checks and loading compiled kernels in it as well; compiling them for the first time is `compile_s`. The slower peers
run on a smaller slice of the same shape, and ours runs on that slice too, in turn with them. Inputs lie in the page
cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from benchmarks.measure import Figures, emit, interleaved, run, say
from benchmarks.synthetic import SHAPES, prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, required=True, help="everything is written here; models stay for the next run"
    )
    parser.add_argument("--shape", choices=SHAPES, default="3gb")
    parser.add_argument("--peer-shape", choices=SHAPES, default="slice")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--peer-pairs", type=int, default=3)
    parser.add_argument(
        "--peer-python", type=Path, help="a Python with llmcompressor; without it that peer is left out"
    )
    parser.add_argument("--format", default="nvfp4a16")
    parser.add_argument("--compile", choices=("on", "auto"), default="on")
    args = parser.parse_args()
    emit("cpu_stream", Bench(args).figures())


class Bench:
    """One invocation."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._work = args, args.work.resolve()
        self._work.mkdir(parents=True, exist_ok=True)
        self._cores = sorted(os.sched_getaffinity(0))
        self._whole = prepare(args.shape, self._work)
        self._slice = prepare(args.peer_shape, self._work)

    def figures(self) -> Figures:
        cold = self._ours(self._whole, 1) if self._args.compile == "on" else {}
        say(f"kernels compiled in {cold.get('warm_up_s')} s")
        whole = interleaved(
            {f"{n}_core": lambda n=n: self._ours(self._whole, n) for n in self._counts()}, self._args.pairs
        )
        peers = {"ours": lambda: self._ours(self._slice, 1), "eager_torch": lambda: self._ours(self._slice, 1, "off")}
        if self._args.peer_python:
            peers["llmcompressor_without_adapter"] = self._llmcompressor
        slices = interleaved(peers, self._args.peer_pairs)
        rates = {name: figures["gb_per_s"] for name, figures in slices.items()}
        return {
            "format": self._args.format,
            "shape": self._args.shape,
            "slice": self._args.peer_shape,
            "input_gb": gb(self._whole),
            "slice_gb": gb(self._slice),
            "compile_s": cold.get("warm_up_s"),
            **whole,
            "on_slice": slices,
            "speed_up_of_two_cores": round(whole["2_core"]["gb_per_s"] / whole["1_core"]["gb_per_s"], 2)
            if "2_core" in whole
            else None,
            "times_faster": {name: round(rates["ours"] / rate, 1) for name, rate in rates.items() if name != "ours"},
        }

    def _counts(self) -> list[int]:
        return [n for n in (1, 2) if n <= len(self._cores)]

    def _ours(self, folder: Path, cores: int, compiled: str | None = None) -> Figures:
        command = [
            sys.executable,
            "-m",
            "benchmarks.ours",
            folder / "model",
            "--adapter",
            folder / "adapter",
            "--out",
            self._out(),
        ]
        command += ["--compile", compiled or self._args.compile]
        for setting in (f"format={self._args.format}", "device=cpu", f"workers={cores}"):
            command += ["--set", setting]
        return self._run(command, cores)

    def _llmcompressor(self) -> Figures:
        command = [self._args.peer_python, "-m", "benchmarks.peer_llmcompressor", self._slice / "model", self._out()]
        figures = self._run(command, 1)
        return {"gb_per_s": round(gb(self._slice) / figures["call_s"], 4), **figures}

    def _run(self, command: list[str | Path], cores: int) -> Figures:
        """Kernels come from a cache of this benchmark's own."""
        kernels = str(self._work / "kernels")
        env = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": kernels, "XDG_CACHE_HOME": kernels}
        return run([*map(str, command)], self._work / "log", cores=self._cores[:cores], env=env)

    def _out(self) -> Path:
        shutil.rmtree(self._work / "out", ignore_errors=True)
        return self._work / "out"


def gb(folder: Path) -> float:
    """Of weights."""
    return round(sum(file.stat().st_size for file in (folder / "model").glob("*.safetensors")) / 1e9, 3)


if __name__ == "__main__":
    main()
