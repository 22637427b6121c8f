"""A machine becomes a target in one call and is as before after another; its key is good for nothing else."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from pathlib import Path

import pytest

from slipway.config.ssh import SshConfig
from slipway.deployment.ssh.connection import SshConnection, open_connection
from slipway.deployment.ssh.keys import pin
from slipway.deployment.ssh.options import login
from slipway.deployment.ssh.set_up import set_up, undo
from slipway.deployment.ssh.target import open_target
from slipway.errors import ConfigError, ResourceError
from slipway.system import rsync
from tests.lab.ssh_lab import PORTS, Machine, SshLab
from tests.support import debian

UNIT = {"slipway-lab.service": "[Service]\nExecStart={python} {root}/slipway-target --root {root} call boot\n"}


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def test_a_machine_is_set_up_twice_and_undone(ssh_lab: SshLab) -> None:
    machine, lines = ssh_lab.machines[0], list[str]()
    before, params = _tree(machine.home), ssh_lab.target(machine)
    more = {"identity": ssh_lab.key, "fingerprint": machine.fingerprint}
    probe = set_up(params, "lab", PORTS, UNIT, lines.append, **more)
    assert (
        "targets/lab/slipway-target --root /root/targets/lab call boot"
        in (machine.units / "slipway-lab.service").read_text()
    )
    assert probe["architecture"] in ("amd64", "arm64")
    shown = "\n".join(lines)
    for words in ("pinned the host key", "made the key", "made /root/targets/lab", "added one line", "wrote unit"):
        assert words in shown
    lines.clear()
    set_up(params, "lab", PORTS, UNIT, lines.append, **more)
    assert not [line for line in lines if any(word in line for word in ("made", "added", "wrote", "replaced"))]
    undo(params, lines.append, identity=ssh_lab.key)
    assert _tree(machine.home) == before
    assert list(machine.units.iterdir()) == []
    assert not Path(params.identity_file).parent.exists()


def test_the_key_opens_sessions_and_incoming_and_nothing_else(ssh_lab: SshLab, tmp_path: Path) -> None:
    machine = ssh_lab.machines[0]
    params = ssh_lab.set_up(machine)
    (tmp_path / "blob").write_bytes(b"1")
    with open_connection(params) as connection:
        for command in ("", "bash", "cat /etc/shadow", "session; id", "rsync --server --sender -e.L . incoming/"):
            done = subprocess.run(connection.argv(command), capture_output=True, text=True, stdin=subprocess.DEVNULL)
            assert done.returncode == 2, (command, done.stdout)
            assert done.stdout == ""
            assert "command over ssh" in done.stderr
        for folder in ("incoming/../", "/root/", "incoming/deeper/"):
            with pytest.raises(ResourceError, match=r"command over ssh"):
                _send(connection, params, tmp_path, folder)
        _send(connection, params, tmp_path, "incoming/")
        _check_forwards(connection, machine)
    assert (machine.home / "targets/lab/incoming/blob").read_bytes() == b"1"


def test_a_machine_whose_host_key_nobody_compared_is_not_trusted(ssh_lab: SshLab, tmp_path: Path) -> None:
    machine, other = ssh_lab.machines
    params = ssh_lab.target(machine)
    with pytest.raises(ConfigError, match=f"it shows .*{re.escape(machine.fingerprint)}.*--fingerprint"):
        pin(params, None, print, own=tmp_path / "absent")
    with pytest.raises(ConfigError, match=f"it shows .*; expected {re.escape(other.fingerprint)}, as given"):
        pin(params, other.fingerprint, print)
    (tmp_path / "own").write_text(machine.known_hosts)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", tmp_path / "own"], check=True, capture_output=True)
    pin(params, None, print, own=tmp_path / "own")
    assert Path(params.known_hosts).read_text() == machine.known_hosts


def test_a_login_that_is_no_target_and_an_older_agent_are_told_apart(ssh_lab: SshLab) -> None:
    machine = ssh_lab.machines[0]
    with pytest.raises(ConfigError, match=r"the login runs no agent.*set-up"), open_target(ssh_lab.person(machine)):
        pass
    params = ssh_lab.set_up(machine)
    file = machine.home / "targets/lab/slipway-target"
    file.write_text("""print('{"agent": {"protocol": 0}}', flush=True); input()""")
    with pytest.raises(ConfigError, match=r"agent on .* protocol 0.*set-up"), open_target(params):
        pass
    ssh_lab.set_up(machine)
    with open_target(params) as target:
        assert target.call("holder", {}) == {"lock": None}


def test_a_clock_that_runs_wrong_is_in_the_probe(ssh_lab: SshLab) -> None:
    """faketime's library in every login of the machine: two days ahead."""
    machine = ssh_lab.machines[0]
    debian.install("faketime", unless="faketime")
    library = machine.run("sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1").stdout.strip()
    params = ssh_lab.set_up(machine)
    machine.power_off()
    (machine.folder / "session.env").write_text(f"LD_PRELOAD={library}\nFAKETIME=+2d\n")
    machine.start()
    with open_target(params) as target:
        assert target.call("probe", {})["time"] - time.time() == pytest.approx(2 * 86400, abs=60)


def _send(connection: SshConnection, params: SshConfig, source: Path, folder: str) -> None:
    rsync.send(["blob"], source, f"{login(params)}:{folder}", connection.shell(), total=1)


def _check_forwards(connection: SshConnection, machine: Machine) -> None:
    """Tunnels lead to the allowed ports only, and none leads back."""
    with connection.tunnel(22) as here:
        assert _banner(here) == b""  # refused by the target when something connects
    back = [*connection.shell(), "-O", "forward", "-R", "127.0.0.1:9999:127.0.0.1:22", "--", login(connection.params)]
    assert subprocess.run(back, capture_output=True).returncode


def _banner(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=120) as client:
        try:
            return client.recv(10)
        except ConnectionResetError:
            return b""
