"""Room is asked for before the first byte, and a lost link is named; tests/lab does it over ssh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.config.ssh import SshConfig
from slipway.deployment.ssh.target import SshSession, open_target
from slipway.errors import ConfigError, ResourceError
from slipway.system import rsync


class Connection:
    """A connection whose copies go to a program that is not ssh."""

    params = SshConfig(host="spark", user="me")

    def __init__(self, program: Path) -> None:
        self._program = program

    def shell(self) -> list[str]:
        return [str(self._program)]


class Session:
    """An agent that has so many bytes free."""

    def __init__(self, free: int) -> None:
        self._free = free

    def call(self, verb: str, document: dict[str, Any], note: Any = None) -> dict[str, Any]:
        assert verb == "probe"
        return {"disk": {"free": self._free}}


@pytest.fixture
def to_folder(tmp_path: Path) -> Path:
    """In place of ssh: runs the command that follows the login in the folder `there`."""
    (tmp_path / "there" / "incoming").mkdir(parents=True)
    program = tmp_path / "to-folder"
    program.write_text(f'#!/bin/bash\ncd {tmp_path}/there\nwhile [ "$1" != rsync ]; do shift; done\nexec "$@"\n')
    program.chmod(0o755)
    return program


def _target(program: Path, free: int) -> SshSession:
    return SshSession(Connection(program), Session(free))  # type: ignore[arg-type]


def test_blobs_go_into_incoming(to_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "a").write_bytes(b"1" * 5000)
    notes: list[str] = []
    assert _target(to_folder, 1 << 40).copy(tmp_path / "blobs", {"a": 5000}, notes.append) == 5000
    assert (tmp_path / "there/incoming/a").read_bytes() == b"1" * 5000
    assert notes[0].startswith("copied 1 blobs to spark: 0.00 of 0.00 GB")
    assert _target(to_folder, 1 << 40).copy(tmp_path / "blobs", {}) == 0


def test_without_room_nothing_is_copied(to_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"disk of spark: 1.00 GB free; expected 6.12 GB.*nothing was copied"):
        _target(to_folder, 10**9).copy(tmp_path, {"a": 2 * 10**9, "b": 2 * 10**9})
    assert list((tmp_path / "there/incoming").iterdir()) == []


def test_a_copy_that_fails_is_named_by_its_host(to_folder: Path, tmp_path: Path) -> None:
    to_folder.write_text("#!/bin/sh\necho 'Timeout, server spark not responding.' >&2; exit 255\n")
    (tmp_path / "a").touch()
    with pytest.raises(ResourceError, match=r"copy to spark: Timeout, server spark not responding.*goes on from there"):
        _target(to_folder, 1 << 40).copy(tmp_path, {"a": 0})


def test_a_copy_that_fills_the_disk_after_all_says_so(
    to_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> rsync.Progress:
        raise ResourceError("copy", "write failed: No space left on device (28)", "room", "free some")

    monkeypatch.setattr(rsync, "send", full)
    with pytest.raises(ResourceError, match="No space left"):
        _target(to_folder, 1 << 40).copy(tmp_path, {"a": 0})


def test_a_target_that_was_not_set_up_from_here_is_refused_at_once(tmp_path: Path) -> None:
    params = SshConfig(host="spark", user="me", identity_file=str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="slipway target set-up"), open_target(params):
        pass
