"""Which processes listen on a TCP port: the kernel lets several of one user share it, and they answer in turn."""

from __future__ import annotations

import ipaddress
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LISTEN = "0A"  # net/tcp_states.h: TCP_LISTEN
PROC = Path("/proc")


@dataclass(frozen=True)
class Listener:
    """A process that listens on `host`; `pid` None when it is another user's and only root may see whose."""

    pid: int | None
    host: str
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For a person."""
        return f"pid {self.pid} ({' '.join(self.command)[:200]})" if self.pid else "a process of another user"


def listeners(host: str, port: int) -> list[Listener]:
    """Who gets connections to this address: those that listen on it or on every address. Empty where there is no
    /proc."""
    hosts = {inode: address for inode, address in _listening(port).items() if overlap(address, host)}
    owners = _owners(set(hosts)) if hosts else {}
    return sorted(
        (
            Listener(pid, address, command_line(pid) if pid else ())
            for inode, address in hosts.items()
            for pid in (owners.get(inode) or {None})
        ),
        key=lambda one: (one.pid or 0, one.host),
    )


def command_line(pid: int) -> tuple[str, ...]:
    """Arguments of a process, its program first; empty when it has ended."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(part.decode(errors="replace") for part in raw.split(b"\0"))[:-1]


def process_ids() -> list[int]:
    """Every process that /proc shows."""
    return sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()) if PROC.is_dir() else []


def overlap(one: str, other: str) -> bool:
    """Whether two listening addresses can get the same connection: equal, or one of them is every address."""
    addresses = [ipaddress.ip_address(host) for host in (one, other)]
    if any(address.is_unspecified and address.version == 6 for address in addresses):
        return True  # a socket on :: takes IPv4 too, as a rule
    same_kind = addresses[0].version == addresses[1].version
    return addresses[0] == addresses[1] or (same_kind and any(address.is_unspecified for address in addresses))


def _listening(port: int) -> dict[str, str]:
    """Inode -> address of the sockets that listen on `port`: columns 1 (address:port in hex), 3 (state) and 9 of
    /proc/net/tcp."""
    inodes = {}
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (PROC / "net" / table).read_text(encoding="utf-8").splitlines()[1:]:
                columns = line.split()
                host, _, hex_port = columns[1].rpartition(":")
                if columns[3] == LISTEN and int(hex_port, 16) == port:
                    inodes[columns[9]] = _address(host)
    return inodes


def _address(text: str) -> str:
    """An address as the kernel prints it: 32-bit words in the machine's own byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _owners(inodes: set[str]) -> dict[str, set[int | None]]:
    """Socket inode -> processes that have it open, as far as this user may look."""
    owners: dict[str, set[int | None]] = {}
    for pid in process_ids():
        with suppress(OSError):  # it ended while we looked, or is another user's
            for descriptor in (PROC / str(pid) / "fd").iterdir():
                with suppress(OSError):
                    match = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
                    if match and match[1] in inodes:
                        owners.setdefault(match[1], set()).add(pid)
    return owners
