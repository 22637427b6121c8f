"""NeMo AutoModel itself, on the CPU, in a folder of packages that all clones share (infra/lab/nemo)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def nemo_lab() -> Mapping[str, str]:
    """What the environment of a process must say for `automodel` to be NVIDIA's, on the CPU."""
    up = subprocess.run(
        [ROOT / "infra/lab/nemo/up"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if up.returncode == 4:
        pytest.skip(f"lab nemo: not run: {up.stderr.strip()}")
    assert up.returncode == 0, up.stderr
    path = os.pathsep.join([str(ROOT / "tests/lab/nemo"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"NEMO_SITE": up.stdout.strip(), "PATH": path, "OMP_NUM_THREADS": "1"}
