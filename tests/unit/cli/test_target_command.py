"""`slipway target set-up`: the row of conf/deploy is what decides; tests/lab runs it against a real sshd."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def _slipway(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "slipway", *words], capture_output=True, text=True, cwd=ROOT)


def test_a_target_of_this_machine_and_an_unknown_one_are_refused() -> None:
    local = _slipway("target", "set-up", "local", "--json")
    assert local.returncode == 2
    assert json.loads(local.stdout)["error"]["thing"] == "target local"
    assert _slipway("target", "set-up", "no-such").returncode == 2


def test_a_machine_that_does_not_answer_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    files = [f"deploy.ssh.identity_file={tmp_path}/id", f"deploy.ssh.known_hosts={tmp_path}/known"]
    sets = [part for one in ["deploy.ssh.host=127.0.0.1", "deploy.ssh.port=1", *files] for part in ("--set", one)]
    done = _slipway("target", "set-up", "spark", "--fingerprint", "SHA256:x", *sets)
    assert done.returncode == 4
    assert "host [127.0.0.1]:1" in done.stderr
    assert list(tmp_path.iterdir()) == []
