"""The file for targets: the same modules, the same bytes, and nothing in it but the agent and the errors."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

from slipway.deployment.target_file import SHEBANG, target_file

ROOT = Path(__file__).resolve().parents[3]


def test_it_holds_the_agent_and_the_errors_and_runs_by_itself() -> None:
    data = target_file()
    assert data.startswith(SHEBANG)
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    assert {"__main__.py", "slipway/__init__.py", "slipway/errors.py", "slipway/agent/__init__.py"} <= set(names)
    agent = {str(file.relative_to(ROOT / "src")) for file in (ROOT / "src/slipway/agent").rglob("*.py")}
    assert set(names) == agent | {"__main__.py", "slipway/__init__.py", "slipway/errors.py"}


def test_the_same_modules_are_the_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from slipway.deployment.target_file import target_file; "
        "print(hashlib.sha256(target_file()).hexdigest())"
    )
    digests = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
