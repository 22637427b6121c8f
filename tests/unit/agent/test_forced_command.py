"""A forced command lets two things through and nothing that looks like them; tests/lab asks a real sshd and rsync."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.agent.forced_command import ORIGINAL, copy_arguments, run
from slipway.errors import ConfigError

COPY = "rsync --server -e.LsfxCIvu --timeout=30 --bwlimit=4000 --append . incoming/"


def test_a_session_and_a_copy_are_let_through() -> None:
    assert copy_arguments("session") is None
    assert copy_arguments(COPY) == COPY.split()
    assert copy_arguments("rsync --server -vre.iLsfxCIvu . incoming/")


@pytest.mark.parametrize(
    "command",
    [
        "",
        " ",
        "sh",
        "session; sh",
        "session sh",
        "session\nsh",
        "bash -c session",
        "rsync",
        "rsync --server",
        "rsync --server .",
        "rsync --server . incoming/",
        "rsync --daemon . incoming/",
        "/tmp/rsync --server -e. . incoming/",
        COPY.replace("--server", "--server --sender"),
        COPY.replace("incoming/", "incoming/../../.ssh/"),
        COPY.replace("incoming/", "/root/incoming/"),
        COPY.replace("incoming/", "incoming"),
        COPY.replace(". incoming", "incoming/ incoming"),
        COPY.replace(" . ", " . /etc . "),
        COPY.replace("--append", "--remove-source-files"),
        COPY.replace("--append", "--delete"),
        COPY.replace("--append", "--log-file=/root/x"),
        COPY.replace("--append", "--partial-dir=/root"),
        COPY.replace("--append", "--temp-dir=/root"),
        COPY.replace("--append", "--backup-dir=.."),
        COPY.replace("--append", "--copy-links"),
        COPY.replace("--append", "--files-from=/etc/shadow"),
        COPY.replace("--append", "--rsync-path=x"),
        COPY.replace("--append", "--append --timeout=x"),
        COPY.replace("-e.", "-le."),
        COPY.replace("-e.", "-Re."),
        COPY.replace("-e.", "-se."),
        COPY.replace("-e.", "-e sh -e."),
        COPY.replace("--append", "$(touch /tmp/x)"),
        COPY.replace("--append", "`touch /tmp/x`"),
        COPY + " extra",
        COPY + "; sh",
        "rsync 'unclosed",
        COPY.replace("4000", "4" * 2000),
    ],
)
def test_everything_else_is_refused_by_name(command: str) -> None:
    with pytest.raises(ConfigError, match="command over ssh"):
        copy_arguments(command)


def test_run_calls_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ORIGINAL, "session")
    assert run(tmp_path, lambda: 7) == 7


def test_a_copy_stands_in_the_root_and_a_symlink_in_place_of_incoming_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "rsync"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\npwd > "{tmp_path}/where"\numask >> "{tmp_path}/where"\nls -d incoming/\n')
    program.chmod(0o755)
    monkeypatch.setenv(ORIGINAL, COPY)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    child = os.fork()
    if child == 0:  # it becomes rsync
        os._exit(_become(tmp_path / "root"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / "where").read_text().split() == [str(tmp_path / "root"), "0077"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "incoming").symlink_to("/tmp")
    with pytest.raises(ConfigError, match="symlink"):
        run(tmp_path / "other", lambda: 9)


def _become(root: Path) -> int:
    run(root, lambda: 9)
    return 1
