"""A start from the caches that a bundle brings: the same GPU, driver and CPU, or an empty folder and the reasons.

    BUNDLE/caches/manifest.json    {"key": {...}, "files": [{"path", "size", "mtime_ns", "mode", "sha256"}, ...]}
    BUNDLE/caches/files/...        never written to

What the plan decides (command, image, limits) is in the bundle that brings the caches. What is left to compare is the
machine; for an engine of an image by digest nothing else. An engine that is a process has its packages from this
machine, which nobody asked here: it starts cold. Each file is checked while it is copied, mtime and all, because
engines judge cached objects by it (`engines/warm_cache.py`); one difference gives an empty folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.agent import machine_probe
from slipway.agent.files import disk_full_is_named, write_atomic
from slipway.agent.records import Fields, is_present, read_json, read_value
from slipway.agent.start_plan import CACHE
from slipway.errors import StateError

FOLDER, MANIFEST, FILES = "caches", "manifest.json", "files"
BECAUSE = "cold-because.json"
MACHINE = ("architecture", "cpu", "gpu", "capability", "gpu_memory", "driver")
UNKNOWN = "unknown"
CHUNK = 1 << 20
_MEND = "build the engine again, or start cold"


def fill(bundle: Path, cache: Path, *, in_image: bool) -> list[str]:
    """Copy a bundle's caches into the empty folder `cache`; empty again, with the reasons, when one thing differs.
    Raises ResourceError when the disk is full."""
    file = bundle / FOLDER / MANIFEST
    if not is_present(file):
        return ["the bundle brings no caches"]
    if not in_image:
        return ["the engine is a process: its packages are not known to be those of the caches"]
    try:
        document = Fields(read_json(file, "manifest of caches", _MEND), f"manifest of caches: {file}", _MEND)
        reasons = differences(document.document("key"), machine())
        rows = [Fields(row, f"manifest of caches: {file}", _MEND) for row in document.objects("files", ())]
        with disk_full_is_named(cache):
            reasons = reasons or [reason for row in rows if (reason := _copied(row, bundle / FOLDER / FILES, cache))]
    except StateError as err:
        reasons = [f"{err.thing}: {err.value}"]
    if reasons:
        for entry in cache.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return reasons[:20]


def fill_start(bundle: Path, start: Path, *, in_image: bool) -> None:
    """Fill the empty cache of a start's folder, and leave there why it stayed empty. Raises as `fill`."""
    reasons = fill(bundle, start / CACHE, in_image=in_image)
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


def differences(then: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """Facts of the machine that are not what they were when the caches were harvested; `unknown` equals nothing."""
    pairs = [(name, str(then.get(name, UNKNOWN)), now.get(name, UNKNOWN)) for name in MACHINE]
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
