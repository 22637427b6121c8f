"""The data half belongs to DVC: bring its splits up to date before `prepare` reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from slipway.config.data import DataConfig
from slipway.data.dvc_lock import locked_stage_name
from slipway.errors import DataError, StageError
from tasks.provenance import ROOT


def reproduce(config: DataConfig) -> bool:
    """Run `dvc repro` of the stage that makes `data.raw` and those after it; False for a user's own data, which no
    stage of `dvc.yaml` makes.

    Raises DataError when a DVC stage fails, StageError when another dvc command holds the repository.
    """
    stage = locked_stage_name(ROOT, ROOT / config.raw)
    if stage is None:
        return False
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # dvc.yaml says `python`
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--downstream", stage],
        cwd=ROOT,
        env={**os.environ, **_without_git(), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    if done.returncode == 0:
        return True
    output = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
    kind = StageError if "acquire lock" in output else DataError
    raise kind(
        "dvc repro",
        output,
        "data up to date with dvc.yaml",
        "run `dvc repro` in the project's root and read what it says",
    )


def _without_git() -> dict[str, str]:
    """In a release that is no git checkout, a system-wide DVC config that says so: DVC refuses to work without."""
    inside = any((folder / ".git").exists() for folder in (ROOT, *ROOT.parents))
    return {} if inside else {"DVC_SYSTEM_CONFIG_DIR": str(ROOT / "infra/local/dvc-without-git")}
