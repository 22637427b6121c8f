"""Slurm's commands as small scripts that answer from files: what a controller says, without one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SCRIPT = """#!/bin/sh
echo "{name} $*" >> {folder}/calls
[ ! -f {folder}/{name}.err ] || {{ cat {folder}/{name}.err >&2; exit 1; }}
key=$(echo "$*" | tr -c 'A-Za-z0-9\\n' '_')
if [ -f "{folder}/{name}.$key" ]; then cat "{folder}/{name}.$key"; else cat {folder}/{name}.out 2> /dev/null || true; fi
"""
NAMES = ("scontrol", "sbatch", "squeue", "scancel")


class SlurmCommands:
    """What each command answers, and what was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            (folder / name).write_text(SCRIPT.format(name=name, folder=folder))
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def answer(self, name: str, text: str, asked: str = "") -> None:
        """What a command prints; with `asked`, when it is called with exactly these words."""
        key = "".join(c if c.isalnum() else "_" for c in asked)
        (self._folder / f"{name}.{key or 'out'}").write_text(text)

    def job(self, job: int, state: str = "RUNNING", restarts: int = 0, node: str = "n1", **more: str) -> None:
        """What `scontrol show job` says of a job."""
        fields = {"JobId": str(job), "JobState": state, "Reason": "None", "Restarts": str(restarts)}
        fields |= {"RunTime": "00:10:00", "TimeLimit": "1-00:00:00", "BatchHost": node, **more}
        text = " ".join(f"{name}={value}" for name, value in fields.items() if value)
        self.answer("scontrol", text + "\n", f"--oneliner show job {job}")
        self.answer("scontrol", f"NodeName={node} NodeAddr=127.0.0.1\n", f"--oneliner show node {node}")

    def fail(self, name: str, message: str) -> None:
        """From now on this command prints `message` and fails."""
        (self._folder / f"{name}.err").write_text(message)

    @property
    def calls(self) -> list[str]:
        """Every call, in order."""
        file = self._folder / "calls"
        return file.read_text().splitlines() if file.exists() else []
