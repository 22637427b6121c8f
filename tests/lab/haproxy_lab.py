"""HAProxy for tests, installed once a session as a Debian package; without it these tests cannot run, so they fail.

Short because the package is all that there is to it.
"""

from __future__ import annotations

import subprocess

import pytest

from slipway.agent.haproxy.process import find_haproxy
from tests.support import debian


@pytest.fixture(scope="session")
def haproxy() -> None:
    """HAProxy is installed; nothing of it runs."""
    if find_haproxy(("haproxy",)) is None:
        debian.install("haproxy")
        # the package's own service is none of ours
        subprocess.run(["sh", "-c", "! command -v systemctl || systemctl disable --now haproxy"], check=False)
