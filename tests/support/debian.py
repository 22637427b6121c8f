"""Debian packages that a lab needs, installed by the project's own script where they are absent.

Short because the script does the work: it takes turns with the other labs that come up.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "infra/lab/apt-install"


def install(*packages: str, unless: str = "") -> None:
    """Install packages, unless a command of this name is there. Raises CalledProcessError where apt cannot."""
    if not (unless and shutil.which(unless)):
        subprocess.run([SCRIPT, *packages], check=True, timeout=1800)
