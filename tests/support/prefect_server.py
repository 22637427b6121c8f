"""A Prefect server of a test's own, as `prefect_test_harness` starts it, on a port that nobody takes meanwhile."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import prefect
import pytest
from prefect.testing.utilities import prefect_test_harness

from slipway.ops.credentials import ensure_credentials
from slipway.ops.servers import PREFECT_HEALTH
from slipway.ops.services import Services
from slipway.system.http import is_healthy
from slipway.system.ports import any_port

START_S = 300
DATABASE = "prefect-test.db"  # as the harness names it
# A server that ends an idle connection resets the request that is on its way; Prefect's client ends it after 25 s
KEEP_ALIVE_S = "3600"


@contextmanager
def prefect_server(config: pytest.Config) -> Iterator[None]:
    """Prefect's settings lead to a server without a run. Its schema, whose migrations are half of a server's start, is
    copied from pytest's cache, where the first server of this version of Prefect leaves it."""
    schema = _schema(config)

    def folder() -> str:
        new = tempfile.mkdtemp()
        if schema.is_file():
            shutil.copyfile(schema, Path(new, DATABASE))
        folders.append(Path(new))
        return new

    folders: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("UVICORN_TIMEOUT_KEEP_ALIVE", KEEP_ALIVE_S)
        patch.setattr("prefect.testing.utilities._find_available_port", any_port)
        patch.setattr("prefect.testing.utilities.mkdtemp", folder)
        with prefect_test_harness(server_startup_timeout=START_S):
            if not schema.is_file():
                _copy(folders[-1] / DATABASE, schema)
            yield


class OwnServer:
    """Slipway's own Prefect server, as `make up` starts it, on a port and in a folder of its own; it may be killed and
    started again."""

    def __init__(self, root: Path, folder: Path, config: pytest.Config) -> None:
        self.services = Services(root, folder, any_port(), any_port())
        self.pair = ensure_credentials(folder).prefect_environment()
        home = folder / "prefect"
        home.mkdir()
        if (schema := _schema(config)).is_file():
            shutil.copyfile(schema, home / "prefect.db")
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """What a process needs to use it as a flow of Slipway does."""
        return {**self.services.environment(), **self.pair}

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "slipway.ops.servers", "prefect"]
        log = self.services.data / "prefect.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command, cwd=self.services.root, env=self.services.environment(), stdout=out, stderr=out
            )
        deadline = time.monotonic() + START_S
        while not is_healthy(self.services.prefect_url + PREFECT_HEALTH):
            assert self._process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process:
            self._process.kill()
            self._process.wait()


def _schema(config: pytest.Config) -> Path:
    assert config.cache is not None
    return Path(config.cache.mkdir(f"prefect-{prefect.__version__}")) / DATABASE


def _copy(database: Path, to: Path) -> None:
    """A consistent copy of a database that is in use; readers of `to` see it whole or not at all."""
    fresh = to.with_name(f".{to.name}.{os.getpid()}")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(fresh)) as target:
        source.backup(target)
    fresh.replace(to)
