"""Keys of this machine's half: made once, host keys pinned beside those of others, and taken back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from slipway.config.ssh import SshConfig
from slipway.deployment.ssh.keys import host_name, key_fingerprint, pin, public_key, unpin
from slipway.errors import ResourceError
from slipway.system.ports import any_port


@pytest.fixture
def reached(tmp_path: Path) -> SshConfig:
    keys = tmp_path / "keys"
    return SshConfig(host="127.0.0.1", user="me", identity_file=str(keys / "id"), known_hosts=str(keys / "known"))


@pytest.fixture(scope="module")
def host_key(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("host") / "k"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    return " ".join(file.with_suffix(".pub").read_text().split()[:2])


def test_a_key_is_made_once_for_its_owner_alone(reached: SshConfig) -> None:
    lines: list[str] = []
    key = public_key(reached, lines.append)
    assert key.startswith("ssh-ed25519 ")
    assert Path(reached.identity_file).stat().st_mode & 0o777 == 0o600
    assert Path(reached.identity_file).parent.stat().st_mode & 0o777 == 0o700
    assert public_key(reached, lines.append) == key
    assert len(lines) == 2
    Path(f"{reached.identity_file}.pub").unlink()
    assert public_key(reached, lines.append).split()[1] == key.split()[1]


def test_what_is_no_private_key_is_named(reached: SshConfig) -> None:
    Path(reached.identity_file).parent.mkdir()
    Path(reached.identity_file).write_text("rubbish")
    with pytest.raises(ResourceError, match=r"key /.*id: "):
        public_key(reached, print)


def test_the_last_host_takes_the_made_key_with_it_and_other_hosts_stay(reached: SshConfig, host_key: str) -> None:
    public_key(reached, print)
    other = reached.model_copy(update={"host": "spark", "port": 2222})
    known = Path(reached.known_hosts)
    known.write_text(f"{host_name(reached)} {host_key}\n{host_name(other)} {host_key}\n")
    pin(reached, None, print)  # known already: nobody is asked
    unpin(reached, print)
    assert known.read_text() == f"[spark]:2222 {host_key}\n"
    assert Path(reached.identity_file).exists()
    unpin(other, print)
    assert not known.parent.exists()
    unpin(other, print)


def test_a_key_that_was_not_made_by_a_set_up_stays(reached: SshConfig, host_key: str) -> None:
    public_key(reached, print)
    public = Path(f"{reached.identity_file}.pub")
    public.write_text(public.read_text().replace("slipway-orchestrator", "me@laptop"))
    Path(reached.known_hosts).write_text(f"127.0.0.1 {host_key}\n")
    unpin(reached, print)
    assert sorted(path.name for path in public.parent.iterdir()) == ["id", "id.pub"]


def test_a_revoked_key_in_a_persons_own_file_is_not_believed(reached: SshConfig, host_key: str, tmp_path: Path) -> None:
    (tmp_path / "own").write_text(f"@revoked 127.0.0.1 {host_key}\n")
    nobody = reached.model_copy(update={"port": any_port()})
    with pytest.raises(ResourceError, match=r"host \[127.0.0.1\]:\d+: .*expected an sshd"):
        pin(nobody, None, print, own=tmp_path / "own")
    (tmp_path / "own").write_text(f"{host_name(nobody)} {host_key}\n")
    pin(nobody, None, print, own=tmp_path / "own")
    assert Path(nobody.known_hosts).read_text() == f"{host_name(nobody)} {host_key}\n"


def test_a_fingerprint_is_ssh_keygens(host_key: str) -> None:
    assert key_fingerprint(host_key).startswith("SHA256:")
    with pytest.raises(ResourceError, match="host key"):
        key_fingerprint("rubbish")
