"""This machine's half of a set-up: the key that only targets take, and the pinned host keys.

A host key is believed because a person compared its fingerprint, or because their own `known_hosts` has it already;
never because the network showed it first.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from slipway.config.ssh import SshConfig
from slipway.errors import ConfigError, ResourceError
from slipway.system.files import write_atomic

COMMENT = "slipway-orchestrator"
SCAN_S = 10
_KEY = re.compile(r"(ssh-[a-z0-9-]+|ecdsa-[a-z0-9-]+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+={0,2}")
Show = Callable[[str], None]


def public_key(params: SshConfig, show: Show) -> str:
    """The public half of `deploy.ssh.identity_file`, made without a passphrase when it is not there: it is good for a
    forced command only. Raises ResourceError when ssh-keygen cannot make it."""
    file = Path(params.identity_file).expanduser()
    public = file.with_name(f"{file.name}.pub")
    if not file.exists():
        _make_folder(file.parent, show)
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", COMMENT, "-f", str(file)], f"key {file}")
        show(f"made the key {file}")
    if not public.exists():
        return _run(["ssh-keygen", "-y", "-P", "", "-f", str(file)], f"key {file}").strip()
    return public.read_text(encoding="utf-8").strip()


def pin(params: SshConfig, fingerprint: str | None, show: Show, own: Path = Path("~/.ssh/known_hosts")) -> None:
    """See that `deploy.ssh.known_hosts` has a key of the host: the one of `fingerprint` (`SHA256:...`), in place of any
    other; else the one pinned already; else those of the person's `own` file.

    Raises ConfigError when none of these is given, with the fingerprints that the host shows, or when it shows others;
    ResourceError when it shows none.
    """
    pinned = Path(params.known_hosts).expanduser()
    if fingerprint is None:
        if known_keys(params, pinned):
            return
        if keys := known_keys(params, own.expanduser()):
            _write(params, pinned, keys)
            show(f"pinned the host key of {host_name(params)} that {own} has, in {pinned}")
            return
    shown_keys = {key_fingerprint(key): key for key in _scan(params)}
    if fingerprint in shown_keys:
        _write(params, pinned, [shown_keys[fingerprint]])
        show(f"pinned the host key {fingerprint} of {host_name(params)} in {pinned}")
        return
    compare = "read them there: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`; if it is one of these, run again"
    raise ConfigError(
        f"host key of {host_name(params)}",
        f"it shows {', '.join(sorted(shown_keys))}",
        f"{fingerprint}, as given" if fingerprint else "a fingerprint that you have compared",
        f"{compare} with --fingerprint SHA256:...",
    )


def unpin(params: SshConfig, show: Show) -> None:
    """Take the host's keys out of the pinned ones; with the last host the file, and the key that a set-up made, go."""
    pinned = Path(params.known_hosts).expanduser()
    if not pinned.exists():
        return
    _write(params, pinned, [])
    show(f"took the host key of {host_name(params)} out of {pinned}")
    if pinned.read_text(encoding="utf-8").strip():
        return
    file = Path(params.identity_file).expanduser()
    public = file.with_name(f"{file.name}.pub")
    ours = public.is_file() and public.read_text(encoding="utf-8").split()[2:] == [COMMENT]
    for path in (pinned, *((file, public) if ours else ())):
        path.unlink(missing_ok=True)
        show(f"removed {path}: no other target uses it")
    if not any(pinned.parent.iterdir()):
        pinned.parent.rmdir()


def host_name(params: SshConfig) -> str:
    """The host as known_hosts names it: ssh looks names up in lower case."""
    host = params.host.lower()
    return host if params.port == 22 else f"[{host}]:{params.port}"


def key_fingerprint(key: str) -> str:
    """`SHA256:...` of a public key's line, as `ssh-keygen -l` prints it."""
    return _run(["ssh-keygen", "-lf", "-"], "host key", text=f"{key}\n").split()[1]


def known_keys(params: SshConfig, file: Path) -> list[str]:
    """Keys (type and base64) of the host in a known_hosts file, its hashed lines included; revoked ones are none."""
    if not file.is_file():
        return []
    argv = ["ssh-keygen", "-F", host_name(params), "-f", str(file)]
    listed = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    lines = [line for line in listed.splitlines() if not line.startswith(("#", "@"))]
    return [match[0] for line in lines if (match := _KEY.search(line))]


def _scan(params: SshConfig) -> list[str]:
    """The keys that the host shows now. Raises ResourceError when it shows none."""
    argv = ["ssh-keyscan", "-T", str(SCAN_S), "-p", str(params.port), "--", params.host]
    scanned = subprocess.run(argv, capture_output=True, text=True, check=False)
    keys = [match[0] for line in scanned.stdout.splitlines() if (match := _KEY.search(line))]
    if not keys:
        words = (scanned.stderr.strip().splitlines() or ["no answer"])[-1]
        raise ResourceError(f"host {host_name(params)}", words, "an sshd that answers", "mend deploy.ssh.host or port")
    return keys


def _write(params: SshConfig, file: Path, keys: list[str]) -> None:
    """Make `keys` the only ones of the host in the file; the lines of others stay."""
    _make_folder(file.parent, lambda _: None)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    others = [line for line in lines if line.split(" ")[0] != host_name(params)]
    write_atomic(file, "".join(f"{line}\n" for line in [*others, *(f"{host_name(params)} {key}" for key in keys)]))


def _make_folder(folder: Path, show: Show) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
        show(f"made {folder}")


def _run(argv: list[str], of: str, text: str = "") -> str:
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as err:
        raise ResourceError(argv[0], "not installed", "OpenSSH's tools", "install openssh-client") from err
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no word of a reason"])[-1]
        raise ResourceError(of, words, "a key that ssh-keygen takes", "mend deploy.ssh.identity_file")
    return done.stdout
