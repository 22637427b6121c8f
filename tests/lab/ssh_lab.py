"""Machines reached over ssh as a fixture: two, each with an sshd in namespaces of its own (infra/lab/ssh)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slipway.config.ssh import SshConfig
from slipway.deployment.ssh.set_up import set_up

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra" / "lab" / "ssh"
ROOT_THERE = "targets/lab"
LOGIN, LOGIN_ID = "sparky", 4242  # the machine's ordinary login, beside root (infra/lab/ssh/up)
LOGIN_HOME, LOGIN_DATA = f"/srv/home/{LOGIN}", f"/srv/data/{LOGIN}"  # as the machine sees them
PORTS = [8090, 8091, 8092, 8093]


@dataclass
class Machine:
    """One machine of the lab. `folder`/home is its /root, seen from here; `link` is our end of its cable."""

    name: str
    folder: Path
    link: str = ""
    address: str = ""
    environment: bool = False  # whether this checkout's .venv is there: a Python with our packages, and not our code

    @property
    def home(self) -> Path:
        """Its /root, as this machine sees it."""
        return self.folder / "home"

    @property
    def login_home(self) -> Path:
        """The ordinary login's home, as this machine sees it."""
        return self.folder / LOGIN / "home"

    @property
    def login_data(self) -> Path:
        """The ordinary login's folder for data, as this machine sees it."""
        return self.folder / LOGIN / "data"

    @property
    def units(self) -> Path:
        """Its /etc/systemd/system, as this machine sees it."""
        return self.folder / "units"

    @property
    def known_hosts(self) -> str:
        """Its host key as a line of known_hosts."""
        kind, key = (self.folder / "host_key.pub").read_text().split()[:2]
        return f"{self.address} {kind} {key}\n"

    @property
    def fingerprint(self) -> str:
        """Its host key's, as `ssh-keygen -l` prints it."""
        shown = subprocess.run(
            ["ssh-keygen", "-lf", self.folder / "host_key.pub"], capture_output=True, text=True, check=True
        )
        return shown.stdout.split()[1]

    def start(self) -> None:
        """Switch it on: this checkout and its environment are not there. Reports a machine without namespaces."""
        hidden = sorted({str(ROOT), str(Path(os.environ.get("VIRTUAL_ENV", ROOT)))})
        shown = ""
        if self.environment:
            hidden = sorted(str(path) for path in ROOT.iterdir() if path.is_dir() and path.name != ".venv")
            needed = (Path(sys.base_prefix), ROOT / ".venv", (ROOT / ".venv/lib").resolve())
            shown = " ".join(str(path) for path in needed if path.is_relative_to("/root"))
        argv = [INFRA / "up", self.folder.parent, self.name, *hidden]
        up = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "SLIPWAY_LAB_SHOWN": shown})
        if up.returncode == 4:
            pytest.skip(f"lab ssh: not run: {up.stderr.strip()}")
        assert up.returncode == 0, up.stderr
        self.link, self.address = up.stdout.split()

    def power_off(self) -> None:
        """Kill all its processes at once; the disk stays."""
        subprocess.run([INFRA / "down", self.folder.parent, self.name], check=True)

    def reboot(self) -> None:
        """Power off and on again. Nothing is started but sshd: the lab has no systemd."""
        self.power_off()
        self.start()

    def carried(self) -> int:
        """Bytes that its cable has carried since it was made, both ways."""
        counters = Path(f"/sys/class/net/{self.link}/statistics")
        return sum(int((counters / f"{way}_bytes").read_text()) for way in ("rx", "tx"))

    def cut(self) -> None:
        """Unplug the cable."""
        subprocess.run(["ip", "link", "set", self.link, "down"], check=True)

    def mend(self) -> None:
        """Plug it in again."""
        subprocess.run(["ip", "link", "set", self.link, "up"], check=True)

    def authorize(self, key: Path) -> None:
        """Both logins, root's and the ordinary one, take this key for a login with a shell."""
        for home, owner in ((self.home, 0), (self.login_home, LOGIN_ID)):
            file = home / ".ssh/authorized_keys"
            file.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.copy(key.with_suffix(".pub"), file)
            os.chown(file, owner, owner)

    def run(self, *argv: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """A command on the machine, as its root, without ssh."""
        enter = [
            "nsenter",
            "--target",
            self._first(),
            "--mount",
            "--pid",
            "--net",
            "--wd=/root",
            "env",
            "-i",
            "HOME=/root",
        ]
        path = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        done = subprocess.run([*enter, path, *argv], capture_output=True, text=True, check=False, **more)
        assert not check or done.returncode == 0, (argv, done.stderr)
        return done

    def pids(self, pattern: str) -> list[str]:
        """Process ids, as the machine counts them, of command lines that match."""
        return self.run("pgrep", "-f", "--", pattern, check=False).stdout.split()

    def wait_for_port(self, port: int) -> None:
        """Until something listens on a port of its loopback."""
        deadline = time.monotonic() + 120
        while self.run("bash", "-c", f"exec 3<> /dev/tcp/127.0.0.1/{port}", check=False).returncode:
            assert time.monotonic() < deadline, f"nothing listens on port {port} of {self.name}"
            time.sleep(0.05)

    def small_disk(self, path: str, megabytes: int) -> None:
        """Mount a disk of a few megabytes at a folder of the machine."""
        self.run("mkdir", "-p", path)
        self.run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "small", path)

    def _first(self) -> str:
        """The machine's first process, as this machine counts: the one child of `unshare`."""
        pid = (self.folder / "pid").read_text().strip()
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]


@dataclass
class SshLab:
    """Two machines, and a key that both take for a login of a person: with a shell, as set-up needs it."""

    folder: Path
    key: Path
    machines: list[Machine]

    def person(self, machine: Machine, user: str = "root") -> SshConfig:
        """A login with a shell."""
        known_hosts = self.folder / f"{machine.name}.person"
        known_hosts.write_text(machine.known_hosts)
        return SshConfig(
            host=machine.address,
            user=user,
            identity_file=str(self.key),
            known_hosts=str(known_hosts),
            keepalive_s=1,
            connect_timeout_s=5,
        )

    def target(self, machine: Machine, user: str = "root") -> SshConfig:
        """How an orchestrator reaches a machine: a key and pinned host keys that a set-up makes."""
        keys = self.folder / f"{machine.name}.orchestrator"
        return self.person(machine, user).model_copy(
            update={"identity_file": str(keys / "id"), "known_hosts": str(keys / "known_hosts"), "root": ROOT_THERE}
        )

    def set_up(self, machine: Machine, units: dict[str, str] | None = None, user: str = "root") -> SshConfig:
        """Make a login of a machine a target; how an orchestrator reaches it."""
        params = self.target(machine, user)
        set_up(params, "lab", PORTS, units or {}, print, identity=self.key, fingerprint=machine.fingerprint)
        return params

    def reset(self) -> None:
        """All machines on, plugged in, with an empty disk."""
        for keys in self.folder.glob("*.orchestrator"):
            shutil.rmtree(keys)
        for machine in self.machines:
            machine.power_off()
            machine.environment = False
            for old in (*machine.home.glob("*"), *machine.units.glob("*")):
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
            shutil.rmtree(machine.folder / LOGIN, ignore_errors=True)
            for setting in ("session.env", "sshd.extra"):
                (machine.folder / setting).unlink(missing_ok=True)
            machine.start()
            machine.mend()
            machine.authorize(self.key)


@pytest.fixture(scope="session")
def ssh_machines() -> Iterator[SshLab]:
    """Both machines, up once a session (0.2 s each); not for tests: take `ssh_lab`."""
    if os.getuid() != 0:
        pytest.skip("lab ssh: not run: it needs root")
    folder = Path(tempfile.mkdtemp(prefix="slp-", dir="/tmp"))
    key = folder / "person"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    try:
        yield SshLab(folder, key, [Machine(name, folder / "machines" / name) for name in ("a", "b")])
    finally:
        subprocess.run([INFRA / "down", folder / "machines"], check=True)
        shutil.rmtree(folder)


@pytest.fixture
def ssh_lab(ssh_machines: SshLab) -> SshLab:
    """Both machines, on and empty."""
    ssh_machines.reset()
    return ssh_machines
