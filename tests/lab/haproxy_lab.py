"""HAProxy for tests, installed once a session as a Debian package; without it these tests cannot run, so they fail.

Short because the package is all that there is to it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from slipway.agent.haproxy.process import find_haproxy

INSTALL = Path(__file__).parents[2] / "infra" / "lab" / "apt-install"


@pytest.fixture(scope="session")
def haproxy() -> None:
    """HAProxy is installed; nothing of it runs."""
    if find_haproxy(("haproxy",)) is None:
        subprocess.run([INSTALL, "haproxy"], check=True, timeout=1800)
        # the package's own service is none of ours
        subprocess.run(["sh", "-c", "! command -v systemctl || systemctl disable --now haproxy"], check=False)
