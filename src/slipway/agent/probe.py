"""What a target is and has room for, read now: the verb `probe`. It takes no lock and changes nothing.

Memory is /proc/meminfo's: MemAvailable counts page cache that can be dropped, MemFree does not; where GPU and CPU share
the memory a driver may need the latter (vllm#48140), so both are given, and whoever asks subtracts its reserve.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.agent.image_environment import cuda_version
from slipway.agent.records import Fields, shown

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "amd64": "amd64", "arm64": "arm64"}
ANSWER_S = 10.0  # a driver that hangs must not hang the probe
GPU_FIELDS = ("name", "driver_version", "compute_cap", "memory.total", "memory.free")
RUNTIMES = ("docker", "podman")


def probe(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (every verb has this shape)
    """The target as JSON values: `architecture` (amd64, arm64, or the kernel's own word), `python`, `kernel`, `boot`
    (id of this start), `time` (seconds since 1970), `disk`, `memory` (bytes), `gpus`, `containers`, `haproxy`, `rsync`.

    `document`: `images`, references of which `containers.images` says digest, id and architecture, null for one that is
    not there. What is not installed is null.
    """
    return look(
        agent.paths.root, Fields(document, "probe", "bring agent and orchestrator together").texts("images", ())
    )


def look(root: Path, images: tuple[str, ...]) -> dict[str, Any]:
    """This machine, as `probe` gives it; `root`: the folder whose disk counts."""
    return {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "boot": _text(Path("/proc/sys/kernel/random/boot_id")),
        "time": time.time(),
        "disk": disk(root),
        "memory": memory(),
        "gpus": gpus(),
        "containers": containers(images),
        "haproxy": _version(["haproxy", "-v"]),
        "rsync": _version(["rsync", "--version"]),
    }


def disk(root: Path) -> dict[str, int]:
    """`free` and `total` bytes of the file system that holds `root`, or will; free ones are those that this user may
    write."""
    while not root.exists() and root != root.parent:
        root = root.parent
    counts = os.statvfs(root)
    return {"free": counts.f_bavail * counts.f_frsize, "total": counts.f_blocks * counts.f_frsize}


def memory(meminfo: Path = Path("/proc/meminfo")) -> dict[str, int]:
    """`total`, `available` and `free` bytes; -1 where the kernel does not say."""
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _text(meminfo), re.MULTILINE))
    names = {"total": "MemTotal", "available": "MemAvailable", "free": "MemFree"}
    return {name: int(sizes[key]) * 1024 if key in sizes else -1 for name, key in names.items()}


def gpus() -> list[dict[str, str]]:
    """What nvidia-smi says of every GPU, in its words (`[N/A]` for the memory of one that shares the CPU's); empty
    without a driver, or with one that does not answer."""
    answer = _output(["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader"])
    rows = [[value.strip() for value in line.split(",")] for line in (answer or "").splitlines()]
    return [dict(zip(GPU_FIELDS, row, strict=True)) for row in rows if len(row) == len(GPU_FIELDS)]


def containers(images: tuple[str, ...]) -> dict[str, Any] | None:
    """The first container program that is installed and answers: `program`, `version`, `images`; None without one."""
    for program in RUNTIMES:
        if version := _version([program, "version", "--format", "{{.Client.Version}}"]):
            return {"program": program, "version": version, "images": {name: image(program, name) for name in images}}
    return None


def image(program: str, reference: str) -> dict[str, Any] | None:
    """`id`, `digests`, `architecture` and `cuda` (its CUDA_VERSION, empty without one) of an image that is on this
    machine; None when it is not. A pull of another architecture succeeds without a word, so what lies there is asked.
    """
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,400}", reference):
        return None
    answer = _output([program, "image", "inspect", "--", reference])
    try:
        (described,) = json.loads(answer or "")
        return {
            "id": str(described["Id"]),
            "digests": [str(digest) for digest in described.get("RepoDigests") or ()],
            "architecture": str(described["Architecture"]),
            "cuda": cuda_version((described.get("Config") or {}).get("Env")),
        }
    except (ValueError, KeyError, TypeError):
        return None


def _version(argv: list[str]) -> str | None:
    """The first thing like a version in a program's answer; None when it is not installed or does not answer."""
    answer = _output(argv)
    match = re.search(r"\d+\.\d+(?:\.\d+)?", answer or "")
    return match[0] if match else None


def _output(argv: list[str]) -> str | None:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as err:
        return shown(err.strerror)
