"""What `dvc repro` would make again, told from `dvc.lock` and the files as they are: DVC itself takes seconds to start.

A stage is made again when a dependency has another digest than recorded, a parameter another value, an output is not
there, or a stage before it is made again. Commands are not compared: dvc.yaml interpolates them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from slipway.data.dvc_lock import digest_now, locked_stages


def changes_since_lock(root: Path, out: Path) -> list[str]:
    """A sentence for each reason why the stage that makes `out`, or one after it, would be made again; empty when all
    is up to date or DVC does not make `out`. Raises DataError for a `dvc.lock` that cannot be read."""
    stages = locked_stages(root)
    first = next((name for name, stage in stages.items() if out.resolve() in _outs(root, stage)), None)
    if first is None:
        return []
    reasons: list[str] = []
    again: set[Path] = set()
    for name in _downstream(root, stages, first):
        before = len(reasons)
        reasons += [f"{name}: {reason}" for reason in _changes(root, stages[name], again)]
        if len(reasons) > before:
            again |= _outs(root, stages[name])
    return reasons


def repro_reason(root: Path, out: Path) -> str:
    """Why DVC makes `out` first, in one line: the first of `changes_since_lock` and how many more; empty when all is up
    to date. Raises as it does."""
    again = changes_since_lock(root, out)
    more = f", and {len(again) - 1} more" if len(again) > 1 else ""
    return f"dvc repro: {again[0]}{more}" if again else ""


def _downstream(root: Path, stages: Mapping[str, Mapping[str, Any]], first: str) -> list[str]:
    """`first` and what is made of it, each after what it needs: `dvc.lock` lists stages in no certain order."""
    names, reached = [first], _outs(root, stages[first])
    while True:
        more = [
            name
            for name, stage in stages.items()
            if name not in names and any((root / dep["path"]).resolve() in reached for dep in stage.get("deps", ()))
        ]
        if not more:
            return names
        for name in more:
            names.append(name)
            reached |= _outs(root, stages[name])


def _changes(root: Path, stage: Mapping[str, Any], again: set[Path]) -> Iterator[str]:
    for dep in stage.get("deps", ()):
        path = root / dep["path"]
        if path.resolve() in again:
            yield f"{dep['path']} is made again"
        elif not path.exists():
            yield f"{dep['path']} is missing"
        elif not _same(path, dep):
            yield f"{dep['path']} changed"
    for file, recorded in (stage.get("params") or {}).items():
        now = yaml.safe_load((root / file).read_text(encoding="utf-8")) if (root / file).is_file() else {}
        yield from (
            f"{file}: {key} {value!r} -> {(now or {}).get(key)!r}"
            for key, value in (recorded or {}).items()
            if (now or {}).get(key) != value
        )
    yield from (f"{out['path']} is missing" for out in stage.get("outs", ()) if not (root / out["path"]).exists())


def _same(path: Path, dep: Mapping[str, Any]) -> bool:
    if path.is_file() and "size" in dep and path.stat().st_size != dep["size"]:
        return False
    return digest_now(path) == dep.get("md5")


def _outs(root: Path, stage: Mapping[str, Any]) -> set[Path]:
    return {(root / out["path"]).resolve() for out in stage.get("outs", ())}
