"""What DVC recorded about the data: read from `dvc.lock` and `*.dvc`, without running DVC.

Digests are DVC's: md5 of a file; for a directory, `<md5>.dir` over the JSON list of its files' md5 and relative path.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from slipway.errors import DataError

LOCK = "dvc.lock"


def locked_stage(root: Path, out: Path) -> dict[str, Any] | None:
    """The stage of `dvc.lock` that makes `out`, or None."""
    return _locked(root, out)[1]


def locked_stage_name(root: Path, out: Path) -> str | None:
    """The name of the stage of `dvc.lock` that makes `out`, or None."""
    return _locked(root, out)[0]


def locked_stages(root: Path) -> dict[str, dict[str, Any]]:
    """Every stage of `dvc.lock` by name, each with what it makes; none without that file. Raises DataError when it is
    damaged."""
    file = root / LOCK
    if not file.exists():
        return {}
    try:
        stages = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]
        for stage in stages.values():
            [(out["path"], out["md5"]) for out in stage.get("outs", ())]
        return dict(stages)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as err:
        raise DataError(
            f"{file}", f"unreadable: {type(err).__name__}", "the file that DVC writes", "restore it with git"
        ) from err


def _locked(root: Path, out: Path) -> tuple[str, dict[str, Any]] | tuple[None, None]:
    for name, stage in locked_stages(root).items():
        if any((root / o["path"]).resolve() == out.resolve() for o in stage.get("outs", ())):
            return name, stage
    return None, None


def locked_digest(root: Path, out: Path) -> str | None:
    """DVC's digest of `out` by `dvc.lock`, or by the `.dvc` file beside it (`dvc add`); None when DVC does not know
    it."""
    stage = locked_stage(root, out)
    outs = stage["outs"] if stage else _added(out)
    return next((o["md5"] for o in outs if Path(o["path"]).name == out.name), None)


def _added(out: Path) -> list[dict[str, Any]]:
    file = out.with_name(f"{out.name}.dvc")
    if not file.exists():
        return []
    try:
        return list(yaml.safe_load(file.read_text(encoding="utf-8"))["outs"])
    except (yaml.YAMLError, KeyError, TypeError) as err:
        raise DataError(
            f"{file}", f"unreadable: {type(err).__name__}", "the file that `dvc add` writes", "run `dvc add` again"
        ) from err


def digest_now(path: Path) -> str:
    """DVC's digest of what is on the disk."""
    if path.is_file():
        return _md5(path.read_bytes())
    files = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    entries = [{"md5": _md5((path / name).read_bytes()), "relpath": name} for name in files]
    return _md5(json.dumps(entries, sort_keys=True).encode()) + ".dir"


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
