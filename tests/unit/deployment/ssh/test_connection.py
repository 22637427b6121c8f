"""What a connection refuses before and without a login; tests/lab logs in to a real sshd."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from slipway.config.ssh import SshConfig
from slipway.deployment.ssh.connection import SshConnection, open_connection
from slipway.errors import ConfigError, ResourceError
from slipway.system.ports import any_port


@pytest.fixture
def reached(tmp_path: Path) -> SshConfig:
    (tmp_path / "k").touch(mode=0o600)
    (tmp_path / "known").touch()
    return SshConfig(
        host="127.0.0.1",
        user="me",
        port=any_port(),
        identity_file=str(tmp_path / "k"),
        known_hosts=str(tmp_path / "known"),
    )


def test_a_machine_without_sshd_is_named_and_nothing_is_left(
    reached: SshConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ResourceError, match=f"target 127.0.0.1:{reached.port}: .*refused"), open_connection(reached):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k", "known"]


def test_a_target_that_was_not_set_up_from_here_starts_no_ssh(reached: SshConfig) -> None:
    Path(reached.identity_file).unlink()
    with pytest.raises(ConfigError, match="set-up"), open_connection(reached):
        pass


def test_without_its_master_a_command_opens_no_connection_of_its_own(reached: SshConfig, tmp_path: Path) -> None:
    with tempfile.TemporaryFile() as errors, subprocess.Popen(["true"]) as ended:
        connection = SshConnection(reached, tmp_path, ended, errors)
        ended.wait()
        argv = connection.argv("session")
        assert argv[-3:] == ["--", "me@127.0.0.1", "session"]
        assert subprocess.run(argv, capture_output=True, check=False).returncode == 255
        assert not connection.is_open
        with pytest.raises(ResourceError, match="tunnel to port 8000"), connection.tunnel(8000):
            pass
        errors.write(b"Timeout, server 127.0.0.1 not responding.\n")
        error = connection.error("switch")
        assert "switch on 127.0.0.1: link lost: Timeout" in str(error)
