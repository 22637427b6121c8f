"""Engine files as proof of a build: there, whole, and new.

A build was seen to be killed for memory while its log said "completed" and no file was written; an old file beside it
would have been served. So after every build, whatever its log and exit code say: `config.json` states the sizes that
were asked for, there is a `rank{N}.engine` for every rank and no other, none is shorter than the weights it must hold,
none is still growing, and none is older than the marker that was written, on the same file system, before the build.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.engines.driver import Limits
from slipway.errors import EngineError
from slipway.system.json_files import read_json

MARKER = "build.started"
# An engine holds its rank's weights and the plan of its kernels. Embeddings may be shared between ranks, layers are
# unequal with pipeline parallelism: half of an equal share is a floor that no whole engine misses.
SHORTEST_SHARE = 0.5
_SETTLE_S = 0.5
_NEXT = "read the build's log, free memory or lower engine.slots and engine.context, and run again"


def mark(bundle: Path) -> Path:
    """Write the marker that files of this build must not be older than."""
    marker = bundle / MARKER
    marker.write_text("engine files older than this were not made by this build\n", encoding="utf-8")
    return marker


def verify_engine(folder: Path, limits: Limits, weight_bytes: int, marker: Path) -> dict[str, int]:
    """Size of each engine file by its name. Raises EngineError naming the file, what it is and what it must be."""
    ranks = limits.tensor_parallel * limits.pipeline_parallel
    if not (folder / "config.json").is_file():
        raise EngineError(f"engine {folder}", "no config.json", "engine files of trtllm-build", _NEXT)
    _check_config(read_json(folder / "config.json", "config of the engine", _NEXT), folder, limits)
    expected = {f"rank{n}.engine" for n in range(ranks)}
    present = {file.name for file in folder.glob("rank*.engine")}
    for problem, names in (("missing", expected - present), ("of a rank that was not asked for", present - expected)):
        if names:
            raise EngineError(f"engine file {folder / min(names)}", problem, f"files of {ranks} ranks", _NEXT)
    started = marker.stat().st_mtime_ns
    floor = int(SHORTEST_SHARE * weight_bytes / ranks)
    sizes = {name: _check_file(folder, name, started, floor) for name in sorted(expected)}
    _check_settled(folder, sizes)
    return sizes


def _check_config(config: Mapping[str, Any], folder: Path, limits: Limits) -> None:
    """Parallel sizes and limits as they were asked for."""
    pretrained, build = _section(config, "pretrained_config"), _section(config, "build_config")
    mapping = _section(pretrained, "mapping")
    ranks = limits.tensor_parallel * limits.pipeline_parallel
    for name, value, wanted in (
        ("pretrained_config.mapping.world_size", mapping.get("world_size"), ranks),
        ("pretrained_config.mapping.tp_size", mapping.get("tp_size"), limits.tensor_parallel),
        ("pretrained_config.mapping.pp_size", mapping.get("pp_size"), limits.pipeline_parallel),
        ("build_config.max_batch_size", build.get("max_batch_size"), limits.slots),
        ("build_config.max_seq_len", build.get("max_seq_len"), limits.context),
    ):
        if value != wanted:
            raise EngineError(f"{name} of {folder / 'config.json'}", f"{value!r}"[:200], f"{wanted}", _NEXT)


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, Mapping) else {}


def _check_file(folder: Path, name: str, started: int, floor: int) -> int:
    """Its size, with the managed weights beside it where the engine holds none. Raises EngineError."""
    file = folder / name
    status = file.stat()
    if status.st_mtime_ns < started:
        raise EngineError(f"engine file {file}", "older than the build", "a file that this build wrote", _NEXT)
    managed = folder / f"{file.stem}_managed_weights.safetensors"
    size = status.st_size + (managed.stat().st_size if managed.is_file() else 0)
    if status.st_size == 0 or size < floor:
        raise EngineError(f"engine file {file}", f"{size} bytes", f"at least {floor}, half of its weights", _NEXT)
    return status.st_size


def _check_settled(folder: Path, sizes: Mapping[str, int]) -> None:
    time.sleep(_SETTLE_S)
    for name, size in sizes.items():
        now = (folder / name).stat().st_size
        if now != size:
            raise EngineError(
                f"engine file {folder / name}", f"{size} bytes, then {now}", "a file that is written out", _NEXT
            )
