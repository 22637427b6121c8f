"""A start from the caches that a bundle brings: the same GPU, driver and CPU, or an empty folder and the reasons.

    BUNDLE/caches/manifest.json    {"key": {...}, "files": [{"path", "size", "mtime_ns", "mode", "sha256"}, ...]}
    BUNDLE/caches/files/...        never written to

What the plan decides (command, image, limits) is in the bundle that brings the caches. What is left to compare is the
machine; for an engine of an image by digest nothing else. An engine that is a process has its packages from this
machine: its own Python is asked for them, and they are compared too. Each file is checked while it is copied, mtime and
all, because engines judge cached objects by it (`engines/warm_cache.py`); one difference gives an empty folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from slipway.agent import machine_probe
from slipway.agent.files import disk_full_is_named, write_atomic
from slipway.agent.logins import without_logins
from slipway.agent.machine_probe import UNKNOWN
from slipway.agent.records import Fields, is_present, read_json, read_value
from slipway.agent.start_plan import CACHE
from slipway.errors import StateError

FOLDER, MANIFEST, FILES = "caches", "manifest.json", "files"
BECAUSE = "cold-because.json"
# What of slipway this module needs where nothing else of it is: on a node of a cluster (`slurm/node.py`)
MODULES = (
    "errors",
    *(f"agent/{name}" for name in ("warm_caches", "machine_probe", "files", "logins", "records", "start_plan")),
)
MACHINE = ("architecture", "cpu", "gpu", "capability", "gpu_memory", "driver")
OF_PYTHON = ("engine", "torch", "cuda", "compilers", "python")
CHUNK = 1 << 20
PROBE_S = 60.0
_MEND = "build the engine again, or start cold"


def fill(bundle: Path, cache: Path, *, program: str | None) -> list[str]:
    """Copy a bundle's caches into the empty folder `cache`; empty again, with the reasons, when one thing differs.
    `program`: the first word of the command of an engine that is a process; None: it runs in its image. Raises
    ResourceError when the disk is full."""
    file = bundle / FOLDER / MANIFEST
    if not is_present(file):
        return ["the bundle brings no caches"]
    try:
        document = Fields(read_json(file, "manifest of caches", _MEND), f"manifest of caches: {file}", _MEND)
        key = document.document("key")
        reasons = differences(key, machine(), MACHINE)
        if program is not None and not reasons:
            reasons = _process_differs(key, program)
        rows = [Fields(row, f"manifest of caches: {file}", _MEND) for row in document.objects("files", ())]
        with disk_full_is_named(cache):
            reasons = reasons or [reason for row in rows if (reason := _copied(row, bundle / FOLDER / FILES, cache))]
    except StateError as err:
        reasons = [f"{err.thing}: {err.value}"]
    if reasons:
        for entry in cache.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return reasons[:20]


def fill_start(bundle: Path, start: Path, *, program: str | None, cache: Path | None = None) -> None:
    """Fill the empty cache of a start's folder (`cache`: of a node, elsewhere), and leave in the folder why it stayed
    empty. Raises as `fill`."""
    reasons = fill(bundle, cache or start / CACHE, program=program)
    write_atomic(start / BECAUSE, json.dumps(reasons) + "\n")


def start_note(start: Path) -> str | None:
    """How the start in this folder found its caches, in words; None for an engine without any."""
    file = start / BECAUSE
    if not is_present(file):
        return None
    reasons = read_value(file, "why a start is cold", _MEND)
    return f"starts cold: {'; '.join(map(str, reasons))}"[:2000] if reasons else "starts from the bundle's caches"


def machine() -> dict[str, str]:
    """The facts of this machine that `MACHINE` names; what cannot be read is `unknown`."""
    facts = machine_probe.main([])
    arch, words, rows = str(facts["arch"]), facts["cpu_words"], facts.get("gpus")
    cpu = machine_probe.cpu_digest(arch, words) if isinstance(words, list) else None
    gpus = machine_probe.gpu_facts(rows) if isinstance(rows, list) else {}
    return {"architecture": arch, "cpu": cpu or UNKNOWN, **gpus}


def packages(program: str, kind: str) -> dict[str, str]:
    """The facts that `OF_PYTHON` names, of the Python that `program` starts; empty where nobody can tell which."""
    python = python_of(program)
    if python is None or kind not in machine_probe.PACKAGES:
        return {}
    text = resources.files("slipway.agent").joinpath("machine_probe.py").read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [python, "-c", text, *machine_probe.PACKAGES[kind]],
            env=without_logins(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    document = machine_probe.printed(done.stdout)
    return machine_probe.package_facts(kind, document) if document else {}


def python_of(program: str) -> str | None:
    """The interpreter that a command's first word starts: itself, what its first line names, or the one beside it."""
    path = shutil.which(program)
    if path is None or Path(path).name.startswith("python"):
        return path
    with open(path, "rb") as file:  # noqa: PTH123 (one line of what may be a large binary)
        first = file.readline(500)
    words = first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []
    if words and Path(words[0]).name.startswith("python"):
        return words[0]
    beside = Path(path).parent / "python3"
    return str(beside) if beside.exists() else None


def _process_differs(key: Mapping[str, Any], program: str) -> list[str]:
    """Packages of a process that are not those of the harvest, and a harvest in an image: its libraries are others."""
    image = str(key.get("image", machine_probe.UNKNOWN))
    if image != machine_probe.NONE:
        return [f"image: {image[:80]} when harvested, a process here"]
    return differences(key, packages(program, str(key.get("kind"))), OF_PYTHON)


def differences(then: Mapping[str, Any], now: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    """Facts of these names that are not what they were when the caches were harvested; `unknown` equals nothing."""
    pairs = [(name, str(then.get(name, UNKNOWN)), now.get(name, UNKNOWN)) for name in names]
    return [f"{name}: {a[:80]} when harvested, {b[:80]} here" for name, a, b in pairs if a != b or a == UNKNOWN]


def _copied(row: Fields, source: Path, target: Path) -> str | None:
    """Copy one file with mode and mtime; what differs from its row, or None."""
    name, mtime_ns = row.text("path"), row.integer("mtime_ns")
    if name.startswith("/") or ".." in Path(name).parts:
        return f"{name[:80]}: leads out of the caches"
    file, copy = source / name, target / name
    try:
        status = file.lstat()
    except OSError:
        return f"{name[:80]}: missing"
    if (status.st_size, status.st_mtime_ns) != (row.integer("size"), mtime_ns):
        return f"{name[:80]}: another size or time"
    copy.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with file.open("rb") as reader, copy.open("wb") as writer:
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    copy.chmod(row.integer("mode") & 0o777)
    os.utime(copy, ns=(mtime_ns, mtime_ns))
    return None if digest.hexdigest() == row.text("sha256") else f"{name[:80]}: other bytes"
