"""One user name and password for the Prefect and MLflow servers of this machine, in a file that only its owner can
read.

`make up` creates the file once; it is kept across restarts. A program that talks to these servers reads it; nobody
types it. The pair goes to loopback ports only where a process of this user listens, so that a stranger who takes the
port while the servers are down does not receive it.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from slipway.errors import ResourceError
from slipway.system.files import fsync_directory

FILE = "credentials.json"
USER = "slipway"
PASSWORD_BYTES = 32
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SOCKET_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTEN = "0A"  # the state of a listening socket there
# 0.0.0.0, 127.0.0.1, :: and ::1 as those tables spell them: each 32-bit word in the byte order of the processor.
ADDRESSES = ("00000000", "0100007F", "0" * 32, "0" * 24 + "01000000")


@dataclass(frozen=True, repr=False)
class Credentials:
    """A user name and a password. The password is left out of `repr`, so that no traceback or log shows it."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r}, password=...)"

    @property
    def pair(self) -> str:
        """`user:password`: Prefect's auth string, and the plain text of HTTP Basic authentication."""
        return f"{self.user}:{self.password}"

    @property
    def authorization(self) -> str:
        """The value of the HTTP header `Authorization`."""
        return "Basic " + base64.b64encode(self.pair.encode()).decode()

    def prefect_environment(self) -> dict[str, str]:
        """The variables that make Prefect's clients log in."""
        return {"PREFECT_API_AUTH_STRING": self.pair}

    def mlflow_environment(self) -> dict[str, str]:
        """The variables that make MLflow's clients log in, whatever server they talk to."""
        return {"MLFLOW_TRACKING_USERNAME": self.user, "MLFLOW_TRACKING_PASSWORD": self.password}


def ensure_credentials(folder: Path) -> Credentials:
    """The credentials of this services folder, created when there are none.

    The file has mode 600 from its first byte, and appears whole: of two processes that create it at the same time, both
    return the same pair. Raises ResourceError for a file that others can read, or that is damaged.
    """
    file = folder / FILE
    if not file.exists():
        _create(file)
    return read_credentials(folder)


def read_credentials(folder: Path) -> Credentials:
    """Read the pair of this services folder. Raises ResourceError when it is missing, damaged or open to others."""
    file = folder / FILE
    renew = f"delete {file}, then `make down` and `make up`: they create another"
    try:
        with file.open(encoding="utf-8") as handle:
            mode, owner = os.fstat(handle.fileno()).st_mode, os.fstat(handle.fileno()).st_uid
            text = handle.read()
    except FileNotFoundError as err:
        raise ResourceError(
            "credentials", f"{file} is missing", "the file that `make up` creates", "`make up`"
        ) from err
    except (OSError, UnicodeDecodeError) as err:
        raise ResourceError("credentials", f"{file} cannot be read ({err})", "a file of this user", renew) from err
    if owner != os.geteuid() or mode & (stat.S_IRWXG | stat.S_IRWXO):
        state = f"{file} belongs to user {owner} and has mode {stat.S_IMODE(mode):o}"
        raise ResourceError("credentials", state, f"user {os.geteuid()} and mode 600: others may have read it", renew)
    try:
        document = json.loads(text)
        user, password = document["user"], document["password"]
    except (ValueError, KeyError, TypeError) as err:
        raise ResourceError("credentials", f"{file} is damaged", "a JSON object with user and password", renew) from err
    if not (isinstance(user, str) and isinstance(password, str) and user and password and ":" not in user):
        raise ResourceError("credentials", f"{file} is damaged", "a user (without a colon) and a password", renew)
    return Credentials(user, password)


def credentials_for(url: str, ports: set[int], folder: Path) -> Credentials | None:
    """The pair of this services folder when `url` is a server of it, on one of `ports`; None for any other server.

    None too when another user listens on that port. Raises ResourceError as `read_credentials` does.
    """
    parts = urlsplit(url)
    port = parts.port or 80
    if parts.scheme != "http" or parts.hostname not in LOOPBACK or port not in ports:
        return None
    if not (folder / FILE).exists() or not listeners(port) <= {0, os.geteuid()}:
        return None
    return read_credentials(folder)


def listeners(port: int) -> set[int]:
    """The user ids that listen on this loopback TCP port; empty when nobody does, or where there is no /proc."""
    users = set()
    for table in SOCKET_TABLES:
        try:
            rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
        except OSError:
            continue
        for row in rows:
            address, _, number = row[1].partition(":")
            if row[3] == LISTEN and address in ADDRESSES and int(number, 16) == port:
                users.add(int(row[7]))
    return users


def _create(file: Path) -> None:
    """Write a new pair beside `file`, then give it its name unless another process was first."""
    text = json.dumps({"user": USER, "password": secrets.token_urlsafe(PASSWORD_BYTES)}) + "\n"
    partial = file.with_name(f".{FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as handle:  # noqa: PTH123 - a descriptor, not a path
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(partial, file)  # never replaces: the first one wins
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.rename(partial, file)  # noqa: PTH104
    finally:
        partial.unlink(missing_ok=True)
    fsync_directory(file.parent)
