"""The two commands that know data versions, asked as programs: git, and the DVC of this Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

GIT_TIMEOUT_S = 60


def git(root: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `git -C root ...`, without the last line end; 127 where there is no git, 124 where it
    does not answer within a minute. It asks nobody for a password."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            env=environment,
            capture_output=True,
            check=False,
            timeout=GIT_TIMEOUT_S,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError:
        return 127, "git is not installed"
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {GIT_TIMEOUT_S} s"
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).strip()


def dvc(root: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `dvc ...` in the project `root`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # dvc.yaml says `python`
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env={**os.environ, **without_git(root), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def without_git(root: Path) -> dict[str, str]:
    """In a release that is no git checkout, a system-wide DVC config that says so: DVC refuses to work without."""
    inside = any((folder / ".git").exists() for folder in (root, *root.parents))
    return {} if inside else {"DVC_SYSTEM_CONFIG_DIR": str(root / "infra/local/dvc-without-git")}
