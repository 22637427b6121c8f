"""A connection to a real sshd on another machine: what is pinned, what is refused, what a cut cable leaves."""

from __future__ import annotations

import re
import subprocess
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest

from slipway.deployment.ssh.connection import open_connection
from slipway.deployment.ssh.options import login
from slipway.errors import ConfigError, ResourceError
from slipway.system import rsync
from slipway.system.ports import any_port
from tests.lab.ssh_lab import SshLab

BYTES = 24 << 20


def test_a_command_runs_there_and_nothing_of_this_checkout_is_seen(ssh_lab: SshLab) -> None:
    machine = ssh_lab.machines[0]
    with open_connection(ssh_lab.person(machine)) as connection:
        done = subprocess.run(
            connection.argv(f"hostname -I; ls {Path(__file__).parents[3]}"), capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [machine.address]
    assert not connection.is_open


def test_a_key_that_is_not_pinned_is_refused(ssh_lab: SshLab, tmp_path: Path) -> None:
    params = ssh_lab.person(ssh_lab.machines[0])
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError, match=r"host key of 198.* not pinned"), _opened(params, tmp_path / "empty"):
        pass
    with pytest.raises(ConfigError, match=r"deploy.ssh.known_hosts: .*/absent"), _opened(params, tmp_path / "absent"):
        pass


def test_a_stale_host_key_is_named_with_the_one_that_the_machine_shows(ssh_lab: SshLab, tmp_path: Path) -> None:
    """The other machine's key at this address: set up anew, or somebody between."""
    here, other = ssh_lab.machines
    stale = other.known_hosts.replace(other.address, here.address)
    (tmp_path / "stale").write_text(stale)
    expected = re.escape(f"changed: now {here.fingerprint}")
    with pytest.raises(ConfigError, match=expected), _opened(ssh_lab.person(here), tmp_path / "stale"):
        pass


def test_a_key_that_the_target_does_not_take_says_set_up(ssh_lab: SshLab) -> None:
    machine = ssh_lab.machines[0]
    (machine.home / ".ssh/authorized_keys").unlink()
    expected = r"login root@.*Permission denied.*slipway target set-up"
    with pytest.raises(ConfigError, match=expected), open_connection(ssh_lab.person(machine)):
        pass


def test_a_machine_that_is_off_and_one_without_sshd_are_named(ssh_lab: SshLab) -> None:
    machine = ssh_lab.machines[0]
    params = ssh_lab.person(machine)
    with pytest.raises(ResourceError, match="refused"), open_connection(params.model_copy(update={"port": 23})):
        pass
    machine.cut()
    with pytest.raises(ResourceError, match=f"target {machine.address}:22"), open_connection(params):
        pass


def test_a_tunnel_leads_to_the_loopback_of_the_target(ssh_lab: SshLab) -> None:
    machine, port = ssh_lab.machines[0], any_port()
    with open_connection(ssh_lab.person(machine)) as connection:
        served = f"cd /root && echo there > page && python3 -m http.server --bind 127.0.0.1 {port}"
        with subprocess.Popen(connection.argv(served), stderr=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            machine.wait_for_port(port)
            with connection.tunnel(port) as here, urlopen(f"http://127.0.0.1:{here}/page") as answer:
                assert answer.read() == b"there\n"
            server.terminate()


def test_a_copy_whose_cable_is_pulled_goes_on_where_it_stopped(ssh_lab: SshLab, tmp_path: Path) -> None:
    machine = ssh_lab.machines[0]
    (tmp_path / "layer").write_bytes(bytes(range(256)) * (BYTES // 256))
    first_megabytes = threading.Event()

    def pull(progress: rsync.Progress) -> None:
        if progress.done > 1 << 20 and not first_megabytes.is_set():
            first_megabytes.set()
            machine.cut()

    params = ssh_lab.person(machine)
    arrived = machine.home / "incoming" / "layer"
    with open_connection(params) as connection, pytest.raises(ResourceError, match=r"copy to .*of 0.03 GB"):
        _send(connection, params, tmp_path, on_progress=pull, limit_mb_s=4)
    piece = arrived.stat().st_size
    assert first_megabytes.is_set()
    assert 0 < piece < BYTES
    machine.mend()
    with open_connection(params) as connection:
        rest = _send(connection, params, tmp_path)
        assert arrived.read_bytes() == (tmp_path / "layer").read_bytes()
        assert rest.done <= BYTES
        again = _send(connection, params, tmp_path)
        assert again.done == 0


def test_a_full_disk_is_named(ssh_lab: SshLab, tmp_path: Path) -> None:
    machine = ssh_lab.machines[0]
    machine.small_disk("/root/incoming", 4)
    (tmp_path / "layer").write_bytes(b"x" * BYTES)
    params = ssh_lab.person(machine)
    with open_connection(params) as connection, pytest.raises(ResourceError, match="No space left"):
        _send(connection, params, tmp_path)


def _send(connection, params, source: Path, **more):
    to = f"{login(params)}:incoming/"
    return rsync.send(["layer"], source, to, connection.shell(), total=BYTES, **more)


def _opened(params, known_hosts: Path):
    return open_connection(params.model_copy(update={"known_hosts": str(known_hosts)}))
