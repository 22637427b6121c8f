"""What one machine says of itself against what a run's stages need there. Pure: whoever calls has asked the machine.

What a machine says is the document of the agent's verb `probe` (`agent/probe.py`), for this machine, for the one of
`remote.host` and for a target alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.config.target import TargetConfig
from slipway.errors import ConfigError, SlipwayError
from slipway.ops.doctor import DISK_FAIL, DISK_WARN, MEMORY_FAIL, MEMORY_WARN, Status
from slipway.ops.preflight.finding import Finding, of_error
from slipway.planning.fit import Fit, fit

GB = 1e9
SPARE = 1.1  # a stage writes temporary files beside what it keeps
CLOCK_S = 60.0  # records and signatures of two machines are compared by their times
Answer = Mapping[str, Any]
Pullable = Callable[[str, str], str]
# CUDA's major version -> the oldest driver (minor version compatibility, docs.nvidia.com/deploy/cuda-compatibility)
DRIVERS = {11: "450", 12: "525", 13: "580"}


@dataclass(frozen=True)
class Needs:
    """What the stages of a run need of one machine. Bytes; `memory_by`: the stage that decides it. `unmeasured`: titles
    of stages that run there and for which nobody has a figure; `row`: the row of conf/targets that the work there was
    planned for, None where no GPU is asked for; `images`: references; `driver`: the oldest driver that their row in
    conf/images.yaml names, empty where it names none."""

    disk: float = 0.0
    memory: float = 0.0
    memory_by: str = ""
    unmeasured: tuple[str, ...] = ()
    architecture: str = ""
    row: TargetConfig | None = None
    images: tuple[str, ...] = ()
    driver: str = ""


def machine_checks(machine: str, answer: Answer, needs: Needs, now: float, pullable: Pullable) -> Iterator[Finding]:
    """The rows of a machine. `now`: seconds since 1970 here, at the answer; `pullable(reference, architecture)` gives
    the CUDA version of an image that is not there yet, empty where it states none, and raises what its registry says.
    """
    yield architecture(machine, answer, needs)
    if needs.row and needs.row.gpus:
        yield gpu(machine, answer, needs.row)
    yield disk(machine, answer, needs)
    yield memory(machine, answer, needs)
    yield clock(machine, answer, now)
    for image in needs.images:
        row, cuda = container_image(machine, answer, image, needs.architecture, pullable)
        yield row
        yield from driver(machine, answer, image.partition("@")[0], cuda, needs.driver)


def architecture(machine: str, answer: Answer, needs: Needs) -> Finding:
    """The CPU's architecture against the one that images and engines are made for."""
    there = str(answer.get("architecture", "unknown"))
    if needs.architecture and there != needs.architecture:
        finding = f"{there}; {needs.architecture} is asked for"
        return Finding(machine, "architecture", "fail", finding, "choose the row of conf/targets that fits the machine")
    return Finding(machine, "architecture", "ok", there)


def gpu(machine: str, answer: Answer, row: TargetConfig) -> Finding:
    """GPUs and driver against the row that the work was planned for."""
    gpus = list(answer.get("gpus") or ())
    asked = f"{row.gpus} of {row.compute_capability} ({row.name})"
    if not gpus:
        return Finding(machine, "GPU", "fail", f"none that a driver lists; {asked}", "install or mend the driver")
    kinds = sorted({f"sm_{one['compute_cap'].replace('.', '')}" for one in gpus})
    drivers = ", ".join(sorted({one["driver_version"] for one in gpus}))
    finding = f"{len(gpus)} x {gpus[0]['name']}, {', '.join(kinds)}, driver {drivers}"
    if len(gpus) < row.gpus or (row.compute_capability and kinds != [row.compute_capability]):
        return Finding(machine, "GPU", "fail", f"{finding}; {asked}", "choose the row of conf/targets that fits it")
    return Finding(machine, "GPU", "ok", finding)


def disk(machine: str, answer: Answer, needs: Needs) -> Finding:
    """What the stages write there against what is free. Stages without a figure: as `slipway doctor` judges."""
    free = float(answer["disk"]["free"])
    need = needs.disk * SPARE
    unmeasured = f"; {len(needs.unmeasured)} stages without a figure" if needs.unmeasured else ""
    finding = f"{free / GB:.1f} GB free, {need / GB:.1f} GB to write{unmeasured}"
    least, comfortable = (DISK_FAIL * GB, DISK_WARN * GB) if needs.unmeasured else (0.0, 0.0)
    advice = "free space, or set store.root (there: remote.folder, deploy.root) on another disk; `slipway gc`"
    if free < need + least:
        return Finding(machine, "disk", "fail", finding, advice)
    return (
        Finding(machine, "disk", "warn", finding, advice)
        if free < need + comfortable
        else Finding(machine, "disk", "ok", finding)
    )


def memory(machine: str, answer: Answer, needs: Needs) -> Finding:
    """The largest stage against all memory there is and what is free now: MemAvailable counts page cache that can be
    dropped, MemFree does not, and a driver that shares the memory may need the latter."""
    sizes = answer["memory"]
    total, available, free = (float(sizes[name]) for name in ("total", "available", "free"))
    state = f"{available / GB:.1f} GB available (MemAvailable), {free / GB:.1f} free (MemFree), of {total / GB:.1f}"
    if total < 0:
        return Finding(machine, "memory", "warn", "the kernel does not say", "look at the machine yourself")
    if not needs.memory:
        low = available < MEMORY_WARN * GB
        poor = available < MEMORY_FAIL * GB and total < MEMORY_FAIL * GB
        advice = f"no stage has a figure; the embedded model's training takes some {MEMORY_FAIL - 0.5:.1f} GB"
        return Finding(machine, "memory", "fail" if poor else "warn" if low else "ok", state, advice if low else "")
    finding = f"{needs.memory_by} takes {needs.memory / GB:.1f} GB; {state}"
    if not fit(needs.memory, total).fits:
        return Finding(machine, "memory", "fail", finding, "a smaller model or batch, or another machine")
    if not fit(needs.memory, available).fits:
        return Finding(machine, "memory", "warn", finding, "end other programs there before it begins")
    if needs.row and needs.row.unified_memory and not fit(needs.memory, free).fits:
        advice = "a driver that does not count page cache may refuse: drop it, or set target.guard.drop_caches"
        return Finding(machine, "memory", "warn", finding, advice)
    return Finding(machine, "memory", "ok", finding)


def clock(machine: str, answer: Answer, now: float) -> Finding:
    """The clock there against this machine's."""
    apart = float(answer["time"]) - now
    finding = f"{abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this machine's"
    if abs(apart) > CLOCK_S:
        return Finding(machine, "clock", "warn", finding, "have both take the time from one source (chrony, timesyncd)")
    return Finding(machine, "clock", "ok", f"within {max(1, round(abs(apart)))} s of this machine's")


def container_image(machine: str, answer: Answer, image: str, wanted: str, pullable: Pullable) -> tuple[Finding, str]:
    """Whether an image is there, of the right architecture, or can be pulled; and its CUDA version, empty where nobody
    says."""
    containers, name = answer.get("containers"), f"image {image.partition('@')[0]}"
    if containers is None:
        advice = "install one of them there, or build an engine that is a process"
        return Finding(machine, name, "fail", "neither docker nor podman answers", advice), ""
    present = (containers.get("images") or {}).get(image)
    if present is not None:
        right = not wanted or present["architecture"] == wanted
        finding = f"there, for {present['architecture']}"
        advice = "" if right else f"`{containers['program']} image rm {image}` there: {wanted} is asked for"
        return Finding(machine, name, "ok" if right else "fail", finding, advice), str(present.get("cuda", ""))
    pull = f"`{containers['program']} pull {image}` there saves the first start from it"
    try:
        cuda = pullable(image, wanted)
    except ConfigError as err:
        return of_error(machine, name, err), ""
    except SlipwayError as err:
        return Finding(machine, name, "warn", f"not there; from here its registry says: {err.value}", pull), ""
    return Finding(machine, name, "warn", "not there yet, and its registry has it", pull), cuda


def driver(machine: str, answer: Answer, image: str, cuda: str, least: str) -> Iterator[Finding]:
    """The driver there against the oldest one that an image runs on: `least`, which its row names and which is refused
    below, else that of its CUDA version, below which data-center GPUs may yet run it (forward compatibility). Nothing
    where neither is known, or no driver is."""
    versions = [numbers for gpu in answer.get("gpus") or () if (numbers := _numbers(str(gpu.get("driver_version"))))]
    if not versions or not (least or cuda):
        return
    there, name = ".".join(map(str, min(versions))), f"driver for {image}"
    wanted = least or DRIVERS.get(_numbers(cuda)[0], "")
    states = f"{there}; the image has CUDA {cuda}" if cuda else there
    row = "`driver` in its row of conf/images.yaml"
    if not wanted:
        yield Finding(machine, name, "warn", f"{states}: nobody here knows what that takes", f"say it by {row}")
    elif min(versions) >= _numbers(wanted):
        yield Finding(machine, name, "ok", f"{states}; {wanted} or newer is asked for")
    elif least:
        yield Finding(machine, name, "fail", f"{states}; {wanted} or newer is asked for", "update the driver there")
    else:
        advice = f"update the driver there; only data-center GPUs run it on an older one ({row} makes this decide)"
        yield Finding(machine, name, "warn", f"{states}; {wanted} or newer is asked for", advice)


def _numbers(version: str) -> tuple[int, ...]:
    """`580.95.05` as numbers, to compare; empty for what is no version."""
    parts = version.strip().split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


def gpu_memory(machine: str, what: str, result: Fit) -> Finding:
    """Planned bytes of one GPU against what it may give."""
    status: Status = "warn" if result.unknown else "ok" if result.fits else "fail"
    return Finding(machine, f"GPU memory: {what}", status, str(result), result.way_out)
