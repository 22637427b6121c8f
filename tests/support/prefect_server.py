"""A Prefect server of a test's own, as `prefect_test_harness` starts it, on a port that nobody takes meanwhile."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import prefect
import pytest
from prefect.testing.utilities import prefect_test_harness

from slipway.system.ports import any_port

START_S = 300
DATABASE = "prefect-test.db"  # as the harness names it
# A server that ends an idle connection resets the request that is on its way; Prefect's client ends it after 25 s
KEEP_ALIVE_S = "3600"


@contextmanager
def prefect_server(config: pytest.Config) -> Iterator[None]:
    """Prefect's settings lead to a server without a run. Its schema, whose migrations are half of a server's start, is
    copied from pytest's cache, where the first server of this version of Prefect leaves it."""
    assert config.cache is not None
    schema = config.cache.mkdir(f"prefect-{prefect.__version__}") / DATABASE

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


def _copy(database: Path, to: Path) -> None:
    """A consistent copy of a database that is in use; readers of `to` see it whole or not at all."""
    fresh = to.with_name(f".{to.name}.{os.getpid()}")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(fresh)) as target:
        source.backup(target)
    fresh.replace(to)
