"""The unit as systemd's own checker reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from slipway.deployment.target_units import units


@pytest.mark.parametrize(("as_root", "wanted_by"), [(True, "multi-user.target"), (False, "default.target")])
def test_a_unit_is_valid_and_starts_at_boot(as_root: bool, wanted_by: str, tmp_path: Path) -> None:
    ((name, text),) = units("spark", as_root).items()
    assert name == "slipway-spark.service"
    assert f"WantedBy={wanted_by}\n" in text
    filled = text.replace("{root}", str(tmp_path)).replace("{python}", "/usr/bin/env")
    assert "{" not in filled
    assert f"ExecStart=/usr/bin/env {tmp_path}/slipway-target --root {tmp_path} call boot\n" in filled
    if shutil.which("systemd-analyze"):  # a machine without systemd has no checker either; the lab says so
        (tmp_path / name).write_text(filled)
        checked = subprocess.run(["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True)
        ours = [line for line in checked.stderr.splitlines() if name in line and "Failed to" not in line]
        assert (checked.returncode, ours) == (0, []), checked.stderr
