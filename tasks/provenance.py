"""Where a run came from: git commit, environment digest, command line. Secrets are masked."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import subprocess
import sys
from pathlib import Path

from slipway.system.files import canonical, sha256_bytes
from slipway.system.redact import mask

ROOT = Path(__file__).resolve().parents[1]


def git_commit() -> str:
    """The commit of the checkout, `+dirty` when tracked files differ from it; `unknown` outside a repository."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return "unknown"
    return commit + ("+dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")


def environment_digest() -> str:
    """sha256 over the sorted `name==version` of every installed package."""
    names = {f"{d.metadata['Name'].lower()}=={d.version}" for d in importlib.metadata.distributions()}
    return sha256_bytes(canonical(sorted(names)))


def command_line() -> str:
    """What the user typed (`slipway run` passes it on in SLIPWAY_COMMAND), else this process's arguments."""
    return mask(os.environ.get("SLIPWAY_COMMAND") or shlex.join(sys.orig_argv))


def _git(*args: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=False, timeout=30, encoding="utf-8"
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
