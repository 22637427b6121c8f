"""Whether DVC's remote has the bytes of a data version, asked without fetching them.

DVC's command line compares the working tree with a remote, not another commit; so a process of this module asks DVC's
own library, with the project's config: a remote of any kind, also one whose storage keeps versions itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from slipway.data.dvc_lock import digest_now, locked_digest
from slipway.ops.commands import without_git
from slipway.ops.data_versions import DataVersion
from slipway.system.redact import mask

ANSWER_S = 120.0


def missing_bytes(root: Path, version: DataVersion, folder: Path) -> str:
    """Why a run could not have the bytes of this version yet; empty where it can: from the working tree of `root`, from
    `folder`, where earlier runs left theirs, or from DVC's remote. Also a remote that does not answer within ANSWER_S
    is a reason; a server of HTTP that is away is for DVC one that shows nothing."""
    here, kept = root / version.path, folder / version.digest / Path(version.path).name
    if kept.is_file():
        return ""
    if here.is_file() and locked_digest(root, here) == version.digest == digest_now(here):
        return ""
    if not version.revision:
        return "the working tree has other bytes"
    answer = _asked(root, version)
    if answer.get("there") is True:
        return ""
    return str(answer.get("problem") or f"DVC's remote {answer['remote']} does not show its bytes (`dvc push` there)")


def _asked(root: Path, version: DataVersion) -> dict[str, Any]:
    """What `main` printed in a process of its own."""
    command = [sys.executable, "-P", "-m", "slipway.ops.dvc_remote", version.path, version.revision]
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, **without_git(root)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=ANSWER_S,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"DVC's remote did not answer within {ANSWER_S:.0f} s"}
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"problem": f"DVC's remote cannot be asked: {mask(last)[:300]}"}
    return answer


def main() -> None:
    """Print whether the remote of the project in the working directory has a file as a commit records it: a line of
    JSON with `remote`, its name, and `there`, or with `problem`."""
    from dvc.repo import Repo

    path, revision = sys.argv[1:]
    with Repo() as repo, repo.switch(revision):
        index = repo.index.data["repo"]
        entry = index[tuple(Path(path).parts)]
        storage = index.storage_map[entry.key].remote
        if storage is None:
            answer: dict[str, Any] = {"problem": "no DVC remote is set (`dvc remote add -d NAME URL`)"}
        else:
            there = storage.exists(entry, refresh=True)
            answer = {"remote": str(repo.config["core"].get("remote", "")), "there": bool(there)}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
