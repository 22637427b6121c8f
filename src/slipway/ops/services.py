"""Where the services of one machine live and listen: Prefect server, MLflow server and a worker, on loopback.

Ports: SLIPWAY_PREFECT_PORT (4200) and SLIPWAY_MLFLOW_PORT (5000). Everything they write is under one folder,
`.slipway/services` or SLIPWAY_SERVICES. `ops/supervision.py` starts and stops them.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import ConfigError
from slipway.ops.credentials import Credentials, credentials_for
from slipway.ops.surroundings import require_usable_proxies
from slipway.system.files import write_atomic
from slipway.system.http import loopback_without_proxy

HOST = "127.0.0.1"
PREFECT_PORT, MLFLOW_PORT = 4200, 5000
SUPERVISORD_CONF = Path("infra/local/supervisord.conf")  # marks the project's root
PORTS_FILE = "ports.json"


@dataclass(frozen=True)
class Services:
    """Where the services of the project at `root` write (`data`) and listen."""

    root: Path
    data: Path
    prefect_port: int
    mlflow_port: int

    @staticmethod
    def here() -> Services:
        """The services of the working directory, or of SLIPWAY_ROOT. Raises ConfigError outside a project's root, and
        for a port that is no number."""
        root = Path(os.environ.get("SLIPWAY_ROOT") or Path.cwd()).resolve()
        if not is_root(root):
            raise ConfigError(
                "working directory", root, "the project's root, which holds infra/local", "cd there, then run again"
            )
        data = Path(os.environ.get("SLIPWAY_SERVICES") or root / ".slipway/services").resolve()
        return Services(
            root, data, _port("SLIPWAY_PREFECT_PORT", PREFECT_PORT), _port("SLIPWAY_MLFLOW_PORT", MLFLOW_PORT)
        )

    @property
    def prefect_url(self) -> str:
        """Address of Prefect's UI; its API is under `/api`."""
        return f"http://{HOST}:{self.prefect_port}"

    @property
    def mlflow_url(self) -> str:
        """Address of MLflow's UI and API."""
        return f"http://{HOST}:{self.mlflow_port}"

    def record_ports(self) -> None:
        """Note the ports of these services in their folder, for programs whose environment does not name them."""
        write_atomic(self.data / PORTS_FILE, json.dumps({"prefect": self.prefect_port, "mlflow": self.mlflow_port}))

    def credentials_for(self, url: str) -> Credentials | None:
        """The credentials to send to `url` when it is one of these two servers; None for any other.

        Raises ResourceError when the file with the credentials is damaged or open to others.
        """
        return credentials_for(url, {self.prefect_port, self.mlflow_port, *self._recorded_ports()}, self.data)

    def _recorded_ports(self) -> list[int]:
        try:
            document = json.loads((self.data / PORTS_FILE).read_text(encoding="utf-8"))
            return [int(document["prefect"]), int(document["mlflow"])]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def environment(self) -> dict[str, str]:
        """What the services, and every command that talks to them, need. Telemetry is off, text is UTF-8 in any locale,
        loopback is reached without a proxy, and nothing is written to the home folder. Holds no credentials.

        Raises ResourceError for a proxy that no HTTP client here can use.
        """
        mlflow_hosts = ",".join(f"{name}:{self.mlflow_port}" for name in (HOST, "localhost"))
        require_usable_proxies(os.environ)
        return {
            **os.environ,
            **loopback_without_proxy(os.environ),
            **_read_env(self.root / "mlflow/server.env"),
            "DO_NOT_TRACK": "1",
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.data / "mlflow/artifacts"),
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{self.data}/mlflow/mlflow.db",
            "MLFLOW_SERVER_ALLOWED_HOSTS": mlflow_hosts,
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": self.mlflow_url,
            "MPLCONFIGDIR": str(self.data / "matplotlib"),
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_HOME": str(self.data / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # In the server's memory, the default, leases end with the server: their slots stay taken for good, and a
            # run that cannot renew the one of its deployment is ended
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": self.prefect_url,
            "PREFECT_UI_STATIC_DIRECTORY": str(self.data / "prefect/ui"),  # by default inside the installed package
            "PYTHONUTF8": "1",
            "SLIPWAY_MLFLOW_PORT": str(self.mlflow_port),
            "SLIPWAY_PREFECT_PORT": str(self.prefect_port),
            "SLIPWAY_PYTHON": sys.executable,
            "SLIPWAY_ROOT": str(self.root),
            "SLIPWAY_SERVICES": str(self.data),
        }


def is_root(folder: Path) -> bool:
    """Whether this folder is the root of a clone or a release of Slipway."""
    return (folder / SUPERVISORD_CONF).is_file()


def _port(variable: str, default: int) -> int:
    value = os.environ.get(variable) or str(default)
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 65535):
        raise ConfigError(variable, value, "a port number, 1 to 65535", f"unset it for {default}")
    return int(value)


def _read_env(file: Path) -> dict[str, str]:
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
