"""What an engine's caches are valid for beside its plan: the GPU, the driver, the CPU, the versions of what compiles.

A fact is what the machine itself says, never what a target's row promises: the row is the plan's, and stands in it. A
fact that nobody could read is `unknown`; the key treats it as equal to nothing (`bundle_key.misses`), because a driver
that could not be asked yesterday and today may have been updated in between.
"""

from __future__ import annotations

import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from slipway.agent.machine_probe import NONE, PACKAGES, UNKNOWN, cpu_digest, gpu_facts, package_facts, printed
from slipway.config.base import Section
from slipway.engines.driver import EngineKind, ServePlan
from slipway.errors import EngineError
from slipway.runners.base import Job, Runner

__all__ = ["NONE", "PACKAGES", "UNKNOWN"]
PROBE_S = 300.0


class MachineFacts(Section):
    """One machine and the Python of one engine on it. `none`: it is known that there is none; `unknown`: not known."""

    architecture: str = Field(UNKNOWN, description="CPU architecture, as the kernel calls it.")
    cpu: str = Field(UNKNOWN, description="Digest of the CPU's instructions (`system/processor.py`).")
    gpu: str = Field(UNKNOWN, description="Name of the GPUs with their number, `2 x NVIDIA H100`; none: a CPU serves.")
    capability: str = Field(UNKNOWN, description="CUDA compute capability, `sm_121`.")
    gpu_memory: str = Field(UNKNOWN, description="Memory of a GPU as nvidia-smi gives it, MiB.")
    driver: str = Field(UNKNOWN, description="Version of the GPU's driver.")
    cuda: str = Field(UNKNOWN, description="CUDA version that the engine's torch is built for.")
    engine: str = Field(UNKNOWN, description="Version of the engine's package.")
    torch: str = Field(UNKNOWN, description="Version of torch.")
    compilers: str = Field(UNKNOWN, description="Versions of the other packages that compile kernels.")
    python: str = Field(UNKNOWN, description="Version of the engine's Python.")


def probe_argv(kind: EngineKind, python: str = "python3") -> tuple[str, ...]:
    """The command that prints a machine's facts: the text of `machine_probe.py` itself, so that nothing of this package
    has to be where it runs."""
    program = resources.files("slipway.agent").joinpath("machine_probe.py").read_text(encoding="utf-8")
    return (python, "-c", program, *PACKAGES[kind])


def parse_probe(kind: EngineKind, output: str) -> MachineFacts:
    """Facts from what the probe printed, among whatever an image's entrypoint printed around it. Raises EngineError
    without a line of the probe."""
    document: dict[str, Any] | None = printed(output)
    if document is None:
        tail = " | ".join(output.strip().splitlines()[-5:]) or "nothing"
        raise EngineError("probe of the machine", tail, "one JSON line", "see that the engine's image has python3")
    try:
        return _facts(kind, document)
    except (KeyError, TypeError, ValueError, ValidationError) as err:
        raise EngineError(
            "probe of the machine", f"{type(err).__name__}: {err}", "what machine_probe.py prints", "probe it again"
        ) from err


def local_facts(plan: ServePlan) -> MachineFacts:
    """This machine, and the Python environment that the plan's program lies in. Raises EngineError when the probe does
    not end well."""
    return python_facts(plan.kind, _python_of(plan))


def python_facts(kind: EngineKind, python: str) -> MachineFacts:
    """This machine, and the environment of the interpreter `python`. Raises as `local_facts`."""
    try:
        done = subprocess.run(
            probe_argv(kind, python), capture_output=True, text=True, timeout=PROBE_S, encoding="utf-8"
        )
    except (OSError, subprocess.SubprocessError) as err:
        raise EngineError(
            "probe of the machine", f"{type(err).__name__}: {err}"[:500], "a Python that starts", "see its installation"
        ) from err
    return parse_probe(kind, done.stdout + done.stderr if done.returncode else done.stdout)


def facts_through(
    runner: Runner, kind: EngineKind, work: Path, name: str, python: str = "python3", processes: int = 1
) -> MachineFacts:
    """Facts of the machine and image that `runner` reaches, by a tiny job `name` in the folder `work`, on as many GPUs
    as the engine will have. Raises EngineError when the job fails or prints no facts, and what the runner raises."""
    work.mkdir(parents=True, exist_ok=True)
    job = Job(name, probe_argv(kind, python), work, processes=processes, whole=True)
    runner.submit(job)
    try:
        deadline = time.monotonic() + PROBE_S
        while (ended := runner.poll(job)) is None and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        runner.cancel(job)
        runner.forget(job)
    output = job.log.read_text(encoding="utf-8", errors="replace") if job.log.exists() else ""
    if ended is None or ended.code != 0:
        reason = f"no end within {PROBE_S:.0f} s" if ended is None else ended.reason
        tail = " | ".join(output.strip().splitlines()[-5:])
        raise EngineError("probe of the machine", f"{reason}: {tail}", "a job that ends with 0", f"read {job.log}")
    return parse_probe(kind, output)


def _python_of(plan: ServePlan) -> str:
    """The interpreter that the plan starts, or the one beside its program: its packages are the ones that serve."""
    program = Path(plan.argv[0])
    if program.name.startswith("python"):
        return str(program)
    beside = program.parent / "python3"
    return str(beside) if program.is_absolute() and beside.exists() else sys.executable


def _facts(kind: EngineKind, document: dict[str, Any]) -> MachineFacts:
    cpu = cpu_digest(document["arch"], document["cpu_words"]) or UNKNOWN
    gpus = gpu_facts(document["gpus"]) if "gpus" in document else {}
    return MachineFacts(architecture=document["arch"], cpu=cpu, **gpus, **package_facts(kind, document))
