"""What doctor says of the machine of remote.host. The script runs in a real shell of this machine, behind a program
named ssh; refusals are those that OpenSSH prints (`tests/lab/runners/test_remote.py` has a real login)."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.config.remote import RemoteConfig
from slipway.ops.remote_check import Row, remote_rows

HOST = "ssh://me@spark:2222"


def behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """An ssh whose far side is this machine; `$1` is the command that it was given."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift 2\necho "Welcome to spark"\n{body}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def rows(tmp_path: Path, **more: str) -> dict[str, Row]:
    params = {"host": HOST, "folder": str(tmp_path / "not/there/yet"), "python": sys.executable, **more}
    return {row[0].removeprefix("remote: "): row for row in remote_rows(RemoteConfig.model_validate(params))}


@pytest.fixture
def this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    behind(tmp_path, monkeypatch, 'sh -c "$1"')
    yield


@pytest.mark.usefixtures("this_machine")
def test_every_subject_is_looked_at_and_nothing_is_made(tmp_path: Path) -> None:
    shown = rows(tmp_path)
    assert list(shown) == [HOST, "login", "python", "packages", "rsync", "disk", "clock"]
    assert [shown[name][1] for name in (HOST, "python", "packages", "clock")] == ["ok"] * 4
    assert shown["login"][1] == "fail" and "prints 'Welcome to spark' before any command" in shown["login"][2]
    assert not (tmp_path / "not").exists()


@pytest.mark.usefixtures("this_machine")
@pytest.mark.parametrize(
    ("printed", "name", "status", "words"),
    [
        ("exit 1", "python", "fail", "says nothing"),
        ("echo No such thing >&2; exit 127", "python", "fail", "No such thing"),
        ("echo slipway-doctor python 3.9.1 x86_64", "python", "fail", "3.9.1 at"),
        ("echo slipway-doctor python 3.14.0 x86_64", "python", "fail", "3.14.0 at"),
        ("echo slipway-doctor python 3.11.7 aarch64", "python", "ok", "3.11.7 on aarch64"),
        ("echo slipway-doctor package torch", "packages", "fail", "missing: torch"),
        ("echo slipway-doctor package torch 1.0", "packages", "warn", "torch 1.0 for"),
    ],
)
def test_a_python_there_that_will_not_do(tmp_path: Path, printed: str, name: str, status: str, words: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{printed}\n")
    python.chmod(0o755)
    row = rows(tmp_path, python=str(python))[name]
    assert (row[1], words in row[2], bool(row[3])) == (status, True, status != "ok"), row


@pytest.mark.parametrize(
    ("body", "name", "status", "words"),
    [
        ("echo slipway-doctor time 100", "clock", "warn", "behind of ours"),
        ("echo slipway-doctor time soon", "clock", "warn", "'soon'"),
        (
            "echo slipway-doctor writable yes; echo slipway-doctor disk /dev/x 1 2 1000 9% /",
            "disk",
            "fail",
            "0.0 GB free",
        ),
        ("echo slipway-doctor writable yes; echo slipway-doctor disk what", "disk", "warn", "df says 'what'"),
        ("echo slipway-doctor folder /srv", "disk", "fail", "/srv is not writable"),
        ("exit 0", "rsync", "fail", "not there"),
    ],
)
def test_a_machine_that_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, name: str, status: str, words: str
) -> None:
    behind(tmp_path, monkeypatch, body)
    row = rows(tmp_path)[name]
    assert (row[1], words in row[2], bool(row[3])) == (status, True, True), row


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ("Host key verification failed.", "host key"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", "host key"),
        ("me@spark: Permission denied (publickey).", "login"),
        ("ssh: Could not resolve hostname spark: Name or service not known", "reached"),
    ],
)
def test_a_refusal_is_named_by_what_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, name: str
) -> None:
    behind(tmp_path, monkeypatch, f"echo {shlex.quote(printed)} >&2; exit 255")
    (row,) = rows(tmp_path).values()
    assert (row[0], row[1], bool(row[3])) == (f"remote: {name}", "fail", True)


def test_a_port_that_nobody_listens_at(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        (row,) = rows(tmp_path, host=f"ssh://127.0.0.1:{held.getsockname()[1]}").values()
    assert (row[0], row[1]) == ("remote: reached", "fail")
    assert "refused" in row[2].lower() and f"-p {row[2].split(':')[2]}" in row[3]


def test_stages_of_this_machine_need_none() -> None:
    assert remote_rows(RemoteConfig()) == []
