"""The proxy's settings out of a document: what the orchestrator's config says, and what lies on this machine.

Refused here by name, since here it would do harm: an address beyond loopback without a key, a key that can be guessed,
a key file or a TLS file that others may read.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from slipway.agent import ports
from slipway.agent.files import sha256_file
from slipway.agent.haproxy.config import ProxySettings
from slipway.agent.haproxy.process import CONTAINER_ENGINES, INSTALL, find_haproxy
from slipway.agent.records import Fields, read_text
from slipway.errors import ConfigError, ResourceError

KINDS = ("auto", "haproxy", "none")
SHORTEST_KEY = 16  # characters
NEXT = "correct deploy.proxy"


def proxy_settings(document: Mapping[str, Any]) -> ProxySettings | None:
    """Section `deploy.proxy` as a document -> settings; None without a proxy: `none`, or `auto` and no HAProxy here.

    Raises StateError for a value of another type, ConfigError for one that is refused, ResourceError when kind is
    `haproxy` and there is none, and for a port that this user may not listen on.
    """
    fields = Fields(document, "deploy.proxy", NEXT)
    kind = fields.text("kind", "none", "|".join(KINDS))
    command = fields.texts("command", ("haproxy",)) or ("haproxy",)
    if kind == "none" or (kind == "auto" and find_haproxy(command) is None):
        return None
    if find_haproxy(command) is None:
        raise ResourceError("HAProxy", f"no program {command[0]}", "HAProxy on the target", INSTALL)
    host, key_file, tls_file = (
        fields.text("host", "127.0.0.1"),
        fields.text("key_file", ""),
        fields.text("tls_file", ""),
    )
    digests = key_digests(Path(key_file).expanduser()) if key_file else ()
    if not digests and not _address(host).is_loopback:
        raise ConfigError("deploy.proxy.host", host, "loopback, or a deploy.proxy.key_file", NEXT)
    port, retry_s = fields.integer("port"), fields.integer("retry_after_s", ProxySettings.retry_after_s)
    for name, value, most in (("port", port, 65535), ("retry_after_s", retry_s, 86400)):
        if not 1 <= value <= most:
            raise ConfigError(f"deploy.proxy.{name}", value, f"1 to {most}", NEXT)
    if not _listens_with_more_rights(command):
        ports.require_allowed(host, port, "deploy.proxy.port")
    tls = private_file(Path(tls_file).expanduser(), "deploy.proxy.tls_file") if tls_file else None
    return ProxySettings(
        host=host,
        port=port,
        key_digests=digests,
        tls_file=str(tls or ""),
        tls_digest=sha256_file(tls) if tls else "",
        drain_limit_s=fields.number("drain_limit_s", ProxySettings.drain_limit_s),
        hold_limit_s=fields.number("hold_limit_s", ProxySettings.hold_limit_s),
        retry_after_s=retry_s,
        answer_limit_s=fields.number("answer_limit_s", ProxySettings.answer_limit_s),
        max_connections=fields.integer("max_connections", ProxySettings.max_connections),
        command=command,
    )


def _listens_with_more_rights(command: tuple[str, ...]) -> bool:
    """Whether HAProxy may listen where this user may not: in a container, or by capabilities of its file."""
    program = (find_haproxy(command) or command)[0]
    if Path(program).name in CONTAINER_ENGINES:
        return True
    with suppress(OSError):  # it has none, or the file system knows none
        return bool(os.getxattr(program, "security.capability"))
    return False


def key_digests(file: Path) -> tuple[str, ...]:
    """sha256 (hex) of `Bearer KEY` for each key of the file: one a line, `#` begins a comment line.

    The config file of the proxy holds these, so that nobody reads a key there. Raises ConfigError naming file and line,
    never the key.
    """
    name = "deploy.proxy.key_file"
    lines = read_text(private_file(file, name), name, NEXT).splitlines()
    keys = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip() and line.strip()[0] != "#"]
    for number, key in keys:
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            expected = f"{SHORTEST_KEY} or more printable ASCII characters without blanks"
            raise ConfigError(f"{name} {file}, line {number}", f"a key of {len(key)} characters", expected, NEXT)
    if not keys:
        raise ConfigError(f"{name} {file}", "no key", "one key a line", NEXT)
    return tuple(hashlib.sha256(f"Bearer {key}".encode()).hexdigest() for _, key in keys)


def private_file(file: Path, name: str) -> Path:
    """The file's whole path; ConfigError when it cannot be read, others than its owner may, or its name would not be
    one word on one line of a config file."""
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or str(err)
        raise ConfigError(name, f"{file}: {reason}", "a file of this machine", NEXT) from err
    if not str(file.resolve()).isprintable():
        raise ConfigError(name, repr(str(file)), "a path of printable characters", "rename it")
    if not stat.S_ISREG(mode) or mode & 0o077:
        value = f"{file}, mode {stat.S_IMODE(mode):04o}"
        raise ConfigError(name, value, "a file that only its owner may read", f"`chmod 600 {file}`")
    return file.resolve()


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(host)
    except ValueError as err:
        raise ConfigError("deploy.proxy.host", host, "an IP address, such as 127.0.0.1", NEXT) from err
