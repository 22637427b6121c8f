"""Runs of a store: which flows work here now, and which were killed before they could say how they ended.

    <store>/runs/<id>.json   what runs: its process and host, its command, where it is tracked
    <store>/runs/<id>.lock   held by that process as long as it lives, whatever kills it

The id goes with every run that the flow opens in MLflow, so that the next run can close what a killed one left open
there, and nothing else.
"""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from slipway.errors import ResourceError
from slipway.system.files import disk_full_is_named, remove, sha256_bytes, write_atomic
from slipway.system.json_files import read_model
from slipway.system.locks import is_held, locked
from slipway.system.processes import ProcessIdentity, identify, is_alive

_MEND = "delete it, and the .lock beside it: what it tracked stays open in MLflow and Prefect"


class RunEntry(BaseModel):
    """One run of a flow. `name` says what it makes, `started` when (UTC), `tracking` is a digest of MLflow's URI (which
    may hold a password), `flow_run` the id of the Prefect flow run, empty without one."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    name: str
    command: str
    host: str
    process: ProcessIdentity
    started: str
    tracking: str
    flow_run: str = ""


class Runs:
    """The runs recorded in one store."""

    def __init__(self, store: Path) -> None:
        self._folder = store.resolve() / "runs"

    @contextmanager
    def open(self, name: str, command: str, tracking_uri: str, flow_run: str) -> Iterator[RunEntry]:
        """Record a run of this process for the time of the block. Raises ResourceError when the store cannot be
        written."""
        entry = RunEntry(
            id=uuid.uuid4().hex,
            name=name,
            command=command,
            host=platform.node(),
            process=identify(os.getpid()),
            started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            tracking=tracking_digest(tracking_uri),
            flow_run=flow_run,
        )
        with locked(self._lock(entry.id), 0.0, f"run {name}"):
            with disk_full_is_named(self._folder):
                write_atomic(self._file(entry.id), entry.model_dump_json(indent=1, exclude_none=True) + "\n")
            try:
                yield entry
            finally:
                self._forget(entry)

    def entries(self) -> list[RunEntry]:
        """All runs on record, oldest first. Raises StateError for a record that cannot be read."""
        files = self._folder.glob("*.json") if self._folder.is_dir() else ()
        entries = [read_model(RunEntry, file, "record of a run", _MEND) for file in files]
        return sorted(entries, key=lambda entry: entry.started)

    def works(self, entry: RunEntry) -> bool:
        """Whether the run's process lives, on whatever host: it holds its lock."""
        return is_held(self._lock(entry.id)) or (entry.host == platform.node() and is_alive(entry.process))

    @contextmanager
    def taken_over(self, entry: RunEntry) -> Iterator[bool]:
        """Close a killed run's books in the block, alone; True when it was killed on this host. Forgotten when the
        block ends well."""
        with ExitStack() as alone:
            killed = entry.host == platform.node() and not self.works(entry)
            if killed:
                try:
                    alone.enter_context(locked(self._lock(entry.id), 0.0, "close a killed run"))
                except ResourceError:  # another run closes it
                    killed = False
            yield killed
            if killed:
                self._forget(entry)

    def _forget(self, entry: RunEntry) -> None:
        remove(self._file(entry.id))
        remove(self._lock(entry.id))

    def _file(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.json"

    def _lock(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.lock"


def tracking_digest(uri: str) -> str:
    """Which tracking server, without its password."""
    return sha256_bytes(uri.encode())[:16]
