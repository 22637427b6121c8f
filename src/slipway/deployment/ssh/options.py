"""ssh's options for a target, and what its words mean when a login fails.

The command line says everything: `~/.ssh/config` is not read, no agent and no password is asked, the host key is the
pinned one, nothing is forwarded but what a tunnel asks for. So what holds for one orchestrator holds for the next.
"""

from __future__ import annotations

import re
from pathlib import Path

from slipway.config.ssh import SshConfig
from slipway.errors import ConfigError, ResourceError, SlipwayError

SET_UP = "`slipway target set-up`"
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{20,60}")
_UNREACHABLE = re.compile(
    r"Could not resolve|Connection refused|timed out|No route to host|unreachable|Connection (?:closed|reset)|"
    r"not responding|Broken pipe|kex_exchange"
)


def login(params: SshConfig) -> str:
    """`user@host`, as ssh takes it."""
    return f"{params.user}@{params.host}"


def copy_address(params: SshConfig) -> str:
    """`user@host`, as rsync takes it before a `:`: an IPv6 address in brackets."""
    return f"{params.user}@[{params.host}]" if ":" in params.host else login(params)


def session_refusal(params: SshConfig, message: str) -> ResourceError | None:
    """The error of an sshd that takes one session in a connection at a time, out of ssh's words; None for others."""
    if "open refused by peer" not in message:
        return None
    line = next(line for line in message.splitlines() if "open refused by peer" in line)
    expected = "two sessions in one connection: the agent's and a copy's"
    next_step = "set MaxSessions to 2 or more in its sshd_config"
    return ResourceError(f"sshd of {params.host}", f"MaxSessions 1: {line.strip()}", expected, next_step)


def options(params: SshConfig) -> list[str]:
    """Arguments of ssh for a login of its own. Raises ConfigError for a path that ssh's parser would break."""
    values = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": _path(params.identity_file, "deploy.ssh.identity_file"),
        "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _path(params.known_hosts, "deploy.ssh.known_hosts"),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "Compression": "no",
        "ConnectTimeout": str(params.connect_timeout_s),
        "ServerAliveInterval": str(params.keepalive_s),
        "ServerAliveCountMax": "3",
    }
    pairs = [part for name, value in values.items() for part in ("-o", f"{name}={value}")]
    return ["-F", "none", *pairs, "-p", str(params.port)]


def personal_options(params: SshConfig, identity: Path | None, ask: bool) -> list[str]:
    """Arguments of ssh for the login of a person, as a set-up needs it: their `~/.ssh/config`, agent and keys, and with
    `ask` questions on the terminal; but the pinned host key, and nothing forwarded. `identity`: one more key."""
    values = {
        "BatchMode": "no" if ask else "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _path(params.known_hosts, "deploy.ssh.known_hosts"),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "ConnectTimeout": str(params.connect_timeout_s),
        "ServerAliveInterval": str(params.keepalive_s),
    }
    more = ["-i", str(identity)] if identity else []
    return [
        *more,
        *(part for name, value in values.items() for part in ("-o", f"{name}={value}")),
        "-p",
        str(params.port),
    ]


def check_files(params: SshConfig) -> None:
    """Raises ConfigError when the key or the pinned host keys are not there: the target was not set up from here."""
    for key in ("identity_file", "known_hosts"):
        path = Path(getattr(params, key)).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"deploy.ssh.{key}", path, "a file", f"{SET_UP} makes it; or give the one of another set-up"
            )


def login_error(params: SshConfig, message: str) -> SlipwayError:
    """What ssh's words on its standard error mean: ConfigError for keys, ResourceError for the way there."""
    name = f"{params.host}:{params.port}"
    fingerprint = next(iter(_FINGERPRINT.findall(message)), "a key that is not shown")
    last = _last_line(message)
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in message:
        return ConfigError(
            f"host key of {name}",
            f"changed: now {fingerprint}",
            f"the key pinned in {params.known_hosts}",
            "ask who runs the machine. If it was set up anew: compare the fingerprint there (`ssh-keygen -lf "
            f"/etc/ssh/ssh_host_ed25519_key.pub`), then {SET_UP} with --fingerprint",
        )
    if "host key is known for" in message or "Host key verification failed" in message:
        next_step = f"{SET_UP} pins it"
        return ConfigError(f"host key of {name}", "not pinned", f"a line in {params.known_hosts}", next_step)
    if "Permission denied" in message or "Too many authentication failures" in message:
        return ConfigError(
            f"login {login(params)} at port {params.port}",
            last,
            f"a target that takes the key {params.identity_file}",
            f"{SET_UP} writes it there; or mend deploy.ssh.user",
        )
    if "UNPROTECTED PRIVATE KEY" in message or "Load key" in message:
        return ConfigError("deploy.ssh.identity_file", last, "a private key of yours alone", f"{SET_UP} makes one")
    reason = last if _UNREACHABLE.search(message) else f"ssh ended: {last}"
    next_step = "is it switched on and on this network? Then again: what was copied stays"
    return ResourceError(f"target {name}", reason, "an sshd that answers", next_step)


def _path(path: str, key: str) -> str:
    """A path as ssh's option parser takes it: quoted, `%` doubled."""
    full = str(Path(path).expanduser())
    if '"' in full or "\n" in full or "\\" in full or "${" in full:
        raise ConfigError(key, full, 'a path without `"`, `\\`, `${` and line breaks', "choose another place")
    return '"' + full.replace("%", "%%") + '"'


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.strip().splitlines() if line.strip() and not line.startswith("@@@")]
    return lines[-1] if lines else "no word of a reason"
