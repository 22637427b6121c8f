"""The unit of a target as systemd reads it. systemd itself does not run here: what the unit starts is run by hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.agent.units import PYTHON, ROOT, units

INSTALL = Path(__file__).parents[3] / "infra" / "lab" / "apt-install"


@pytest.fixture(scope="session")
def systemd_analyze() -> str:
    """systemd's own checker of unit files; its package is installed where it is absent."""
    if shutil.which("systemd-analyze") is None:
        subprocess.run([INSTALL, "systemd"], check=True, timeout=1800)
    return "systemd-analyze"


def written(folder: Path, root: Path) -> Path:
    """The unit as a set-up writes it."""
    ((name, text),) = units("lab").items()
    (folder / name).write_text(text.replace(PYTHON, sys.executable).replace(ROOT, str(root)))
    return folder / name


def verified(program: str, unit: Path) -> str:
    """What the checker says; nothing when all is well."""
    done = subprocess.run([program, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    return done.stderr + done.stdout + ("" if done.returncode == 0 else f"exit {done.returncode}")


def test_systemd_understands_every_line(systemd_analyze: str, tmp_path: Path) -> None:
    unit = written(tmp_path, tmp_path)
    assert verified(systemd_analyze, unit) == ""
    for line, other in (("Restart=always", "Restart=alwayz"), (sys.executable, "/no/such/python")):
        unit.write_text(unit.read_text().replace(line, other))
        assert other.split("=")[-1] in verified(systemd_analyze, unit)
