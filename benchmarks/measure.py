"""What every benchmark needs: a run in a process of its own with its peak memory, medians of interleaved runs, and
where it ran.

Memory is read from /proc of the process while it lives: RssAnon sampled (what it holds), VmHWM (all it ever had mapped
at once, its files' pages and CUDA's host mappings included). GPU memory is what nvidia-smi says is used, less what was
used before.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("torch", "triton", "transformers", "peft", "nvidia-modelopt", "safetensors")
ROUTES = ("documented", "shortest")  # of PEFT and nvidia-modelopt
_SAMPLE_S = 0.02
Figures = dict[str, Any]


class RunFailedError(Exception):
    """A measured process that did not end well; says the end of its log."""


def last_line(output: str) -> Figures:
    """The figures of a measured process: JSON on its last line of output."""
    return dict(json.loads(output.strip().splitlines()[-1]))


def run(
    command: Sequence[str],
    log: Path,
    *,
    parse: Callable[[str], Figures] = last_line,
    cores: Sequence[int] | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 3600,
) -> Figures:
    """Run `command`, pinned to `cores`; the figures that `parse` reads in its output, and what it took as a process:
    seconds from its start to its end, processor seconds (user and system) of it and its children, peaks of memory."""
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command] if cores else list(command)
    before, start, cpu = gpu_used_gb(), time.monotonic(), _children_cpu_s()
    with log.open("a") as errors, GpuPeak() as gpu:
        process = subprocess.Popen(
            pinned,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **package_paths(), **(env or {})},
        )
        try:
            peaks = _watch(process.pid, process, start + timeout)
            output, _ = process.communicate()
            total = {
                "process_s": round(time.monotonic() - start, 2),
                "process_cpu_s": round(_children_cpu_s() - cpu, 3),
                **peaks,
            }
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        tail = log.read_text()[-2000:]
        raise RunFailedError(f"{' '.join(command[:6])} ended with {process.returncode}; the end of {log}:\n{tail}")
    return parse(output) | total | ({} if before is None else {"gpu_used_peak_gb": round(gpu.peak_gb - before, 3)})


def _children_cpu_s() -> float:
    """Processor seconds of the children that have ended and been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def prepared(shape: str, work: Path, device: str, stored_layers: int | None = None) -> Path:
    """The folder of a synthetic model, made by a process of its own: this one stays off the GPU."""
    say(f"writing {shape} into {work}")
    command = [sys.executable, "-m", "benchmarks.synthetic", shape, str(work), "--device", device]
    command += ["--stored-layers", str(stored_layers)] if stored_layers else []
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr, env={**os.environ, **package_paths()})
    return work / shape


def peer_modelopt(route: str, folder: Path, work: Path, fmt: str) -> Figures:
    """PEFT and nvidia-modelopt by one of ROUTES (see `peer_modelopt`) on the model and adapter in `folder`; what it
    writes into `work` is removed."""
    out = work / "peer"
    command = [sys.executable, "-m", "benchmarks.peer_modelopt", route, folder / "model", folder / "adapter", out]
    try:
        return run([*map(str, command), "--format", fmt], work / "log")
    finally:
        shutil.rmtree(out, ignore_errors=True)


def package_paths() -> dict[str, str]:
    """The checkout's packages come first, whatever is installed."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH"))))}


def _watch(pid: int, process: subprocess.Popen[str], deadline: float) -> Figures:
    anonymous = total = 0
    while process.poll() is None:
        status = _status(pid)
        anonymous, total = max(anonymous, status.get("RssAnon", 0)), max(total, status.get("VmHWM", 0))
        if time.monotonic() > deadline:
            raise RunFailedError(f"process {pid}: not done in time")
        time.sleep(_SAMPLE_S)
    return {"anonymous_peak_gb": round(anonymous / 1e9, 3), "rss_peak_gb": round(total / 1e9, 3)}


def _status(pid: int) -> dict[str, int]:
    """kB lines of /proc/PID/status in bytes; nothing when the process has just ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: int(kb) * 1024 for name, kb in re.findall(r"(\w+):\s+(\d+) kB", text)}


class GpuPeak:
    """Follows nvidia-smi's memory.used, five times a second, while the block runs; does nothing without a GPU."""

    def __init__(self) -> None:
        self.peak_gb = 0.0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> GpuPeak:
        if shutil.which("nvidia-smi"):
            self._process = subprocess.Popen([*_SMI, "-lms", "200"], stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            samples, _ = self._process.communicate()
            self.peak_gb = max((int(line) * 2**20 / 1e9 for line in samples.split() if line.isdigit()), default=0.0)


_SMI = ["nvidia-smi", "-i", "0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]


def gpu_used_gb() -> float | None:
    """GB in use on the first GPU, by whomever; None without one."""
    if not shutil.which("nvidia-smi"):
        return None
    ran = subprocess.run(_SMI, capture_output=True, text=True)
    return int(ran.stdout) * 2**20 / 1e9 if ran.returncode == 0 else None


def interleaved(runs: Mapping[str, Callable[[], Figures]], times: int) -> dict[str, Figures]:
    """Each run `times` times, in turn, so that a machine that drifts drifts for all; medians, and every run's
    figures."""
    figures: dict[str, list[Figures]] = {name: [] for name in runs}
    for i in range(times):
        for name, make in runs.items():
            figures[name].append(make())
            say(f"{name}, {i + 1} of {times}: {json.dumps(figures[name][-1])}")
    return {name: median(each) for name, each in figures.items()}


def median(runs: Sequence[Figures]) -> Figures:
    """Medians of the numbers; other figures of the first run; `runs` says how many and `gb_per_s_runs` each one's
    speed."""
    numbers = {k: statistics.median(run[k] for run in runs) for k, v in runs[0].items() if isinstance(v, int | float)}
    speeds = {"gb_per_s_runs": [run["gb_per_s"] for run in runs]} if "gb_per_s" in runs[0] else {}
    return {**runs[0], **numbers, **speeds, "runs": len(runs)}


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def emit(name: str, figures: Figures) -> None:
    """The one line of a benchmark, and the same in `$OUT/NAME.json` where OUT is set."""
    line = json.dumps(
        {"benchmark": name, "command": " ".join(sys.orig_argv[1:]), **commit(), "machine": machine(), **figures}
    )
    if os.environ.get("OUT"):
        (Path(os.environ["OUT"]) / f"{name}.json").write_text(line + "\n")
    print(line, flush=True)


def commit() -> Figures:
    """The commit measured, and whether files differ from it; `$COMMIT` where the tree is a copy without its history."""
    ran = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    if ran.returncode:
        return {"commit": os.environ.get("COMMIT", "unknown")}
    changed = subprocess.run(
        ["git", "-C", ROOT, "status", "--porcelain", "-uno"], capture_output=True, text=True
    ).stdout
    return {"commit": ran.stdout.strip() + ("+changes" if changed.strip() else "")}


def machine() -> Figures:
    """Processor, cores this process may use, memory, GPU and driver, and the versions that matter."""
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    facts: Figures = {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "-i", "0", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        facts["gpu"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    return facts


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
