"""Ordinary users on both sides: nobody is root, no file of anybody else is read, umask 077, a login that prints words.

The orchestrator is a checkout and a home of user nobody, its commands are real processes; the target is the ordinary
login of a machine of the ssh lab: no sudo, no /run/user, a home that no one else may enter.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from slipway.agent.units import units
from slipway.config.deploy import DeployConfig
from slipway.config.proxy import ProxyConfig
from slipway.deployment.promotion import promote
from slipway.deployment.ssh.set_up import set_up, undo
from slipway.deployment.state import status
from slipway.errors import ConfigError, ResourceError
from slipway.store.store import Store
from slipway.system.ports import any_port
from tests.lab.ssh_lab import LOGIN, LOGIN_DATA, LOGIN_HOME, LOGIN_ID, PORTS, ROOT_THERE, Machine, SshLab
from tests.support.release import environment_for, unpack
from tests.support.stranger import NOBODY
from tests.support.target import NO_PROXY, SERVER, make_data, make_engine, make_verdict

pytestmark = pytest.mark.timeout(900)
PROMOTE = """
import json, sys
from pathlib import Path
from slipway.config.load import load_config
from slipway.deployment.promotion import promote
from slipway.store.store import Store
from tests.support import target as support
config = load_config(Path("conf"), ["layers.deploy=deploy/spark"])
server = support.SERVER.replace(support.SERVER.split(" ", 1)[0], "#!/usr/bin/python3", 1)
store = Store(Path(config.store.root))
engine = support.make_engine(store, {"answer": json.dumps({"version": int(sys.argv[1])})}, server)
verdict = support.make_verdict(store, engine)
data = support.make_data(store)
made = promote(engine, verdict, data, {}, config.deploy, model="home", note=lambda text: print(text, file=sys.stderr))
print(made.name)
"""
ASK = """
import json, sys, urllib.request
body = json.dumps({"model": "slipway", "messages": [{"role": "user", "content": "u"}]}).encode()
request = urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=120).read().decode())
"""


class Laptop:
    """A checkout of an ordinary user, who promotes to the ordinary login of a machine."""

    def __init__(self, top: Path, lab: SshLab, machine: Machine, root: str = ROOT_THERE) -> None:
        self.machine = machine
        self._project, self._home = unpack(top / "slipway"), top / "home"
        self._python = environment_for(self._project, top / "python") / "python"
        self._home.mkdir(mode=0o700)
        key = Path(shutil.copy(lab.key, top / "key"))
        for path in (self._project, self._home, key):
            os.chown(path, NOBODY, NOBODY)
        self._key = key
        self._environment = {
            "HOME": str(self._home),
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": str(top / "python/lib"),
            "PYTHONPATH": str(self._project),
            "SLIPWAY_PREFECT_PORT": str(any_port()),
            "SLIPWAY_MLFLOW_PORT": str(any_port()),  # nothing of this machine's own
        }
        row = yaml.safe_load((self._project / "conf/deploy/spark.yaml").read_text())
        row |= {"ssh": {"host": machine.address, "user": LOGIN, "root": root}, "start_timeout_s": 60}
        (self._project / "conf/deploy/spark.yaml").write_text(yaml.safe_dump({**row, "smoke_requests": 2}))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A Python of this checkout, as its user."""
        return subprocess.run(
            [self._python, *words],
            cwd=self._project, env=self._environment, user=NOBODY, group=NOBODY, extra_groups=[], umask=0o077,
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip

    def slipway(self, *words: str, code: int = 0) -> str:
        """What a command prints, which ends with this exit code."""
        done = self.run("-m", "slipway", *words)
        assert done.returncode == code, (words, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def set_up(self, *words: str, code: int = 0) -> str:
        """`slipway target set-up spark`, by this user's key for a login with a shell."""
        return self.slipway("target", "set-up", "spark", "--identity", str(self._key), *words, code=code)

    def promote(self, version: int) -> str:
        """Promote an engine that answers with its version; the release's name."""
        done = self.run("-c", PROMOTE, str(version))
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1]

    def answer(self) -> int:
        """The version that answers at the one address of clients."""
        answer = self.machine.run("python3", "-I", "-c", ASK, "http://127.0.0.1:8090/v1/chat/completions").stdout
        (version,) = re.findall(r'version\\": (\d+)', answer)
        return int(version)


@pytest.fixture
def laptop(ssh_lab: SshLab, haproxy: None) -> Iterator[Laptop]:
    top = Path(tempfile.mkdtemp(prefix="slipway-"))
    top.chmod(0o755)
    try:
        yield Laptop(top, ssh_lab, ssh_lab.machines[0])
    finally:
        shutil.rmtree(top)


# What podman, where it is installed, leaves in a home at its first command of a login, asked for its version alone too
PODMANS = re.compile(r"\.cache(/containers.*)?|\.config(/cni.*)?|\.local(/share(/containers.*)?)?")


def tree(folder: Path) -> list[str]:
    """Paths below a home, but for podman's own."""
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return [path for path in paths if not PODMANS.fullmatch(path)]


def as_login(machine: Machine, *argv: str) -> subprocess.CompletedProcess[str]:
    """A command of the machine's ordinary login, as its systemd would start it: hardly an environment."""
    words = ["setpriv", f"--reuid={LOGIN_ID}", f"--regid={LOGIN_ID}", "--clear-groups", "env", f"HOME={LOGIN_HOME}"]
    return machine.run(*words, *argv, check=False)


def test_ordinary_users_promote_go_back_stop_start_and_undo(laptop: Laptop) -> None:
    """Nothing of root's or of another user's is written or read on either side; a reboot brings back what served."""
    machine = laptop.machine
    before = tree(machine.login_home)
    assert "added one line" in laptop.set_up("--fingerprint", machine.fingerprint)
    first = laptop.promote(1)
    second = laptop.promote(2)
    assert laptop.answer() == 2
    assert re.search(rf"{second} .*serving", laptop.slipway("status", "layers.deploy=deploy/spark"))
    laptop.slipway("rollback", "spark")
    assert laptop.answer() == 1
    assert f"stopped release {first}" in laptop.slipway("stop", "spark")
    assert f"{first} serves at" in laptop.slipway("start", "spark")
    assert laptop.answer() == 1
    last = [laptop.promote(version) for version in (3, 4)][-1]
    releases = machine.login_home / ROOT_THERE / "releases"
    assert "removed no release" in laptop.slipway("gc", "spark", "--yes"), "a promotion removes old ones"
    assert {path.lstat().st_uid for path in machine.login_home.rglob("*")} == {LOGIN_ID}
    assert (releases.parent.stat().st_mode & 0o777) == 0o700, "what lies below is nobody else's to read"
    machine.reboot()
    (unit,) = (machine.login_home / ".config/systemd/user").iterdir()
    (command,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    watch = threading.Thread(target=lambda: as_login(machine, "timeout", "60", *command.split()))
    watch.start()
    machine.wait_for_port(8090)
    assert f"{last} serves already at" in laptop.slipway("start", "spark")
    assert laptop.answer() == 4
    watch.join()
    laptop.set_up("--undo")
    assert tree(machine.login_home) == before
    assert machine.pids("haproxy|releases/") == []


def test_a_folder_that_the_login_may_not_write_is_refused_with_what_an_admin_does(ssh_lab: SshLab) -> None:
    machine = ssh_lab.machines[0]
    params = ssh_lab.target(machine, LOGIN).model_copy(update={"root": "/srv/data/target"})
    more = {"identity": ssh_lab.key, "fingerprint": machine.fingerprint}
    with pytest.raises(ConfigError, match=r"/srv/data/target: .*Permission denied: not for login sparky") as refused:
        set_up(params, "lab", PORTS, {}, print, **more)
    (command,) = re.findall(r"`(install .*?)`", str(refused.value))
    machine.run(*command.split())
    assert set_up(params, "lab", PORTS, {}, print, **more)["architecture"] in ("amd64", "arm64")
    undo(params, print, identity=ssh_lab.key)
    assert machine.run("ls", "-A", "/srv/data/target").stdout == "", "made by an admin: emptied, and there still"
    own = machine.login_data / "mine"
    own.touch()
    with pytest.raises(ConfigError, match=rf"{LOGIN_DATA}: has mine in it, of no set-up; expected a folder that"):
        set_up(params.model_copy(update={"root": LOGIN_DATA}), "lab", PORTS, {}, print, **more)
    assert own.exists()
    machine.run("sh", "-c", f"chown root: {LOGIN_HOME}/.ssh && chmod 755 {LOGIN_HOME}/.ssh")
    with pytest.raises(ConfigError, match=rf"{LOGIN_HOME}/.ssh/.*: .*not for login sparky.*mend its owner and mode"):
        set_up(params, "lab", PORTS, {}, print, **more)


def test_ports_that_are_roots_are_refused_by_name_and_nothing_stays(ssh_lab: SshLab, haproxy: None) -> None:
    params = ssh_lab.set_up(ssh_lab.machines[0], user=LOGIN)
    proxy = ProxyConfig(port=443)
    deploy = DeployConfig(target="lab", kind="spark", ssh=params, ports=(8091, 8093), start_timeout_s=30, proxy=proxy)
    store = Store(Path(params.known_hosts).parent / "store")
    engine = make_engine(store, {"answer": "{}"}, SERVER.replace(SERVER.split(" ", 1)[0], "#!/usr/bin/python3", 1))
    data, verdict = make_data(store), make_verdict(store, engine)
    notes = list[str]()
    for update, port in (
        ({}, "443, deploy.proxy.port"),
        ({"proxy": NO_PROXY, "ports": (81, 83)}, "83, .*deploy.ports"),
    ):
        changed = deploy.model_copy(update=update)
        expected = rf"port {port}: not for user {LOGIN_ID}: below 1024; expected a port from 1024 on"
        with pytest.raises(ResourceError, match=expected):
            promote(engine, verdict, data, {}, changed, model="home", note=notes.append)
        assert not any(note.startswith("started ") for note in notes)
        assert status(changed).release is None


def test_a_login_without_a_systemd_of_its_own_is_told_what_an_admin_does(ssh_lab: SshLab) -> None:
    """systemd runs; this login has no session (no /run/user/UID) and does not linger."""
    machine, lines = ssh_lab.machines[0], list[str]()
    machine.run("mkdir", "-p", "/run/systemd/system")
    params = ssh_lab.target(machine, LOGIN)
    more = {"identity": ssh_lab.key, "fingerprint": machine.fingerprint}
    set_up(params, "lab", PORTS, units("lab"), lines.append, **more)
    shown = "\n".join(lines)
    assert "have an admin run `loginctl enable-linger sparky`, then set up again" in shown
    assert re.search(r"could not enable slipway-lab.service: .+`systemctl --user status", shown)
    undo(params, lines.append, identity=ssh_lab.key)
    assert not (machine.login_home / ".config").exists()


def test_a_login_that_prints_words_before_any_command_is_refused_by_name(ssh_lab: SshLab) -> None:
    machine = ssh_lab.machines[0]
    with (machine.login_home / ".bashrc").open("a") as profile:
        profile.write("echo Have a good day\n")
    with pytest.raises(ConfigError, match=r"login sparky on .*prints 'Have a good day' before any command"):
        ssh_lab.set_up(machine, user=LOGIN)
