"""What it costs to start: processor seconds and modules of each command and each stage, beside the imports of the
libraries that a peer starts with; and `slipway quantize` as a whole process, beside the peer's whole process.

`python -m benchmarks.startup --work DIR`, two minutes on two cores; `--shape 8b --device cuda` on an H100, some 8
minutes.

`process_s` is from the start of Python to the end of the process, `process_cpu_s` its processor time (user and system).
Files lie in the page cache after the first, uncounted round. `slowest_imports` are of one more run under `-X
importtime`: milliseconds with all that the module imports in turn, which that option itself makes slower. Each run is
in turn with the others, figures are medians. The peer's routes are those of `gpu_stream`; their writes are not flushed,
ours are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.cpu_stream import gb
from benchmarks.measure import (
    ROOT,
    ROUTES,
    Figures,
    RunFailedError,
    emit,
    median,
    package_paths,
    peer_modelopt,
    prepared,
    run,
    say,
)
from benchmarks.synthetic import SHAPES

IMPORTS = {
    "python": "pass",
    "import torch": "import torch",
    # itself nearly empty: its modules are imported when they are asked for
    "import transformers": "import transformers",
    "import AutoModelForCausalLM": "from transformers import AutoModelForCausalLM",
    "import peft": "import peft",
    "import modelopt": "import modelopt.torch.quantization",
}
COMMANDS = {
    "slipway --help": ["--help"],
    "slipway status": ["status"],
    "slipway config": ["config"],
    "slipway quantize --help": ["quantize", "--help"],
}
STAGES = ("fetch", "prepare", "train_cpu", "train_nemo", "merge", "quantize", "engine", "evaluate", "gate")
# The last word on stderr of each small process: how many modules it had loaded at its end.
_COUNT = "import atexit, sys; atexit.register(lambda: print(len(sys.modules), file=sys.stderr)); "
_SHOWN = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="everything is written here; the model stays")
    parser.add_argument("--memory-work", type=Path, help="a folder in memory, for output only")
    parser.add_argument("--shape", choices=SHAPES, default="tiny", help="the model of the whole processes")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[], help="numbers of workers beside the default")
    parser.add_argument("--starts", nargs="*", help="names of the small processes to run; default: all")
    parser.add_argument("--routes", nargs="*", choices=ROUTES, default=ROUTES)
    args = parser.parse_args()
    emit(f"startup_{args.shape}", Bench(args).figures())


class Bench:
    """One invocation."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._work = args, args.work.resolve()
        self._work.mkdir(parents=True, exist_ok=True)
        self._folder = prepared(args.shape, self._work, args.device)
        self._small = self._folder if args.shape == "tiny" else prepared("tiny", self._work, args.device)
        self._errors: dict[str, str] = {}

    def figures(self) -> Figures:
        """The line of this benchmark: `starts` (a small process each), `whole` and `peft_and_modelopt` (a model
        each)."""
        starts = self._medians(self._starts(), self._args.repeats, uncounted=1)
        whole = self._medians(self._whole_processes(), self._args.repeats)
        routes = {
            route: lambda route=route: peer_modelopt(route, self._folder, self._work, "nvfp4a16")
            for route in self._args.routes
        }
        peers = self._medians(routes, times=1)
        torch_cpu = starts.get("import torch", {}).get("process_cpu_s")
        return {
            "shape": self._args.shape,
            "device": self._args.device,
            "input_gb": gb(self._folder),
            "starts": starts,
            "of_import_torch": {
                name: round(results["process_cpu_s"] / torch_cpu, 2) for name, results in starts.items() if torch_cpu
            },
            "slowest_imports": self._slowest_imports(),
            "whole": whole,
            "peft_and_modelopt": peers,
            "times_faster": {
                route: {name: round(peer["process_s"] / ours["process_s"], 1) for name, ours in whole.items()}
                for route, peer in peers.items()
            },
            "errors": self._errors,
        }

    def _medians(self, runs: dict[str, Callable[[], Figures]], times: int, uncounted: int = 0) -> dict[str, Figures]:
        """Medians of `times` runs of each, in turn, after `uncounted` ones that bring files into the page cache; one
        that fails is named in the result, and the rest is measured all the same."""
        counted: dict[str, list[Figures]] = {name: [] for name in runs}
        for i in range(uncounted + times):
            for name in [name for name in runs if name not in self._errors]:
                try:
                    figures = runs[name]()
                except (RunFailedError, OSError) as err:
                    self._errors[name] = str(err)
                    say(f"{name} failed: {err}")
                    continue
                say(f"{name}: {figures}")
                if i >= uncounted:
                    counted[name].append(figures)
        return {name: median(results) for name, results in counted.items() if results}

    def _starts(self) -> dict[str, Callable[[], Figures]]:
        """Processes that start and do next to nothing."""
        codes = IMPORTS | (
            {"CUDA context": "import torch; torch.zeros(1, device='cuda')"} if self._args.device == "cuda" else {}
        )
        codes |= {name: _command(words) for name, words in COMMANDS.items()}
        codes |= {
            f"stage {name}": f"from slipway.pipeline.stage import stage_spec; stage_spec({name!r})" for name in STAGES
        }
        codes |= {
            "slipway quantize, tiny": self._tiny("nvfp4a16"),
            "slipway quantize, tiny, calibrated": self._tiny("nvfp4"),
        }
        wanted = codes if self._args.starts is None else self._args.starts
        return {name: lambda code=codes[name]: self._start(code) for name in wanted}

    def _tiny(self, fmt: str) -> str:
        """Code that quantizes the tiny model on the CPU."""
        folder, out = self._small, self._work / "tiny-out"
        words = ["quantize", str(folder / "model"), "--adapter", str(folder / "adapter"), "--out", str(out)]
        words += [
            "--format",
            fmt,
            "--set",
            "device=cpu",
            "--set",
            "calibration.samples=2",
            "--set",
            "calibration.length=32",
        ]
        words += ["--calibration", str(folder / "calibration.jsonl")] if fmt == "nvfp4" else []
        return f"import shutil; shutil.rmtree({str(out)!r}, ignore_errors=True); {_command(words)}"

    def _start(self, code: str) -> Figures:
        log = self._work / "start.log"
        log.unlink(missing_ok=True)
        figures = run([sys.executable, "-c", _COUNT + code], log, parse=no_figures)
        return {**figures, "modules": int(log.read_text().split()[-1])}

    def _slowest_imports(self) -> dict[str, dict[str, int]]:
        """Of each command, the imports that took longest, in milliseconds."""
        codes = {name: _command(words) for name, words in COMMANDS.items()}
        codes |= {"import torch": "import torch", "slipway quantize, tiny": self._tiny("nvfp4a16")}
        results = {}
        for name, code in codes.items():
            command = [sys.executable, "-X", "importtime", "-c", code]
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **package_paths()}
            )
            results[name] = slowest(done.stderr)
        return results

    def _whole_processes(self) -> dict[str, Callable[[], Figures]]:
        runs: dict[str, Callable[[], Figures]] = {"ours": lambda: self._quantize(self._work / "out")}
        if self._args.memory_work:
            memory = self._args.memory_work.resolve() / "slipway-out"
            runs["ours_into_memory"] = lambda: self._quantize(memory)
        for count in self._args.workers:
            runs[f"ours_{count}_workers"] = lambda count=count: self._quantize(self._work / "out", count)
        return runs

    def _quantize(self, out: Path, workers: int | None = None) -> Figures:
        """`slipway quantize` of the model with its adapter to NVFP4 W4A16, as a person types it."""
        shutil.rmtree(out, ignore_errors=True)
        command = [
            sys.executable,
            "-m",
            "slipway",
            "quantize",
            self._folder / "model",
            "--adapter",
            self._folder / "adapter",
        ]
        command += ["--format", "nvfp4a16", "--out", out, "--set", f"device={self._args.device}", "--json"]
        command += ["--set", f"workers={workers}"] if workers else []
        try:
            return run([*map(str, command)], self._work / "log", parse=document)
        finally:
            shutil.rmtree(out, ignore_errors=True)


def _command(words: list[str]) -> str:
    """Code that runs `slipway WORDS` as `python -m slipway` does."""
    return f"import sys; sys.argv = ['slipway', *{words!r}]; from slipway.cli.app import main; main()"


def no_figures(_output: str) -> Figures:
    """Of a process whose output is for people."""
    return {}


def document(output: str) -> Figures:
    """Figures that are the whole output, as JSON: what `--json` prints."""
    return dict(json.loads(output))


def slowest(report: str) -> dict[str, int]:
    """The imports of a report by `-X importtime` that took longest with what they import: milliseconds by module."""
    lines = re.findall(r"^import time:\s*\d+ \|\s*(\d+) \|\s*(\S+)$", report, re.MULTILINE)
    longest = sorted(lines, key=lambda line: -int(line[0]))[:_SHOWN]
    return {module: round(int(microseconds) / 1000) for microseconds, module in longest}


if __name__ == "__main__":
    main()
