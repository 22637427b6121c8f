"""Units of a login and what keeps them from starting at boot; systemd's programs are scripts of the test's."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from slipway.agent import systemd

NAME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `systemctl` and `loginctl` are looked for, and nothing else; this user counts as one that is not root."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.getpwnam(NAME))
    for name in ("RUNS", "LINGERS", "RUNTIME"):
        monkeypatch.setattr(systemd, name, tmp_path / name)
    monkeypatch.setattr(systemd, "MANAGER_S", 0.0)
    return tmp_path


def script(file: Path, words: str, code: int = 0) -> None:
    file.write_text(f'#!/bin/sh\necho "$@" "$XDG_RUNTIME_DIR" >> {file}.log\necho "{words}" >&2\nexit {code}\n')
    file.chmod(0o755)


def test_where_systemd_does_not_run_that_is_all(programs: Path) -> None:
    shown: list[str] = []
    assert not systemd.runs(shown.append)
    (programs / "RUNS").mkdir()
    assert systemd.runs(shown.append)
    assert shown == ["systemd does not run here: the units are written, and nothing starts at boot"]


def test_a_login_that_does_not_linger_is_made_to_or_an_admin_is_asked(programs: Path) -> None:
    shown: list[str] = []
    assert not systemd.linger(shown.append)
    script(programs / "loginctl", "Could not enable linger: Access denied.", 1)
    assert not systemd.linger(shown.append)
    for line, reason in zip(shown, ("loginctl: No such file", "Could not enable linger: Access denied"), strict=True):
        assert reason in line
        assert f"have an admin run `loginctl enable-linger {NAME}`" in line
    script(programs / "loginctl", "")
    assert systemd.linger(shown.append)
    systemd.linger_no_more(shown.append)
    assert (programs / "loginctl.log").read_text().split() == ["enable-linger"] * 2 + ["disable-linger"]
    (programs / "LINGERS" / NAME).mkdir(parents=True)
    assert not systemd.linger(shown.append)
    assert [line.rpartition(":")[2] for line in shown[2:]] == [" on, so that its units start at boot", " off again"]


def test_units_are_enabled_in_the_runtime_folder_that_a_login_was_not_given(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    shown: list[str] = []
    systemd.enable(["a.service"], shown.append)
    (programs / "RUNTIME/4711").mkdir(parents=True)
    script(programs / "systemctl", "")
    systemd.enable(["a.service"], shown.append)
    script(programs / "systemctl", "Failed to connect to bus: No medium found", 1)
    systemd.enable(["a.service"], shown.append)
    absent, done, refused = shown
    assert "could not enable a.service: systemctl: No such file or directory" in absent
    assert done == "enabled and started a.service"
    assert "Failed to connect to bus: No medium found. Next: mend that (`systemctl --user status a.service`)" in refused
    lines = (programs / "systemctl.log").read_text().splitlines()
    asked = (
        "daemon-reload",
        "enable a.service",
        "restart a.service",
    )  # the unit looks from now on, not from the next boot
    assert lines[:3] == [f"--user {words} {programs}/RUNTIME/4711" for words in asked]
