"""Aliases that MLflow does not know yet: the switch was made while it was away. Written down in the store, one for a
target; whoever reaches MLflow next sets them. The pointer of the target is the truth, the alias its mirror."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from slipway.agent.records import utc_now
from slipway.system.files import disk_full_is_named, write_atomic
from slipway.system.json_files import as_model, is_present, read_json_list

FILE = "pending-aliases.json"
_MEND = "delete it: `slipway status` shows where alias and pointer differ, `slipway status --mend` sets the alias"


class PendingAlias(BaseModel):
    """The champion alias of `target` is to name the version of registered model `line` that has this engine digest."""

    model_config = ConfigDict(frozen=True)

    target: str
    line: str
    engine: str = Field(pattern=r"^[0-9a-f]{64}$")
    since: str


def pending_aliases(store: Path) -> list[PendingAlias]:
    """What is still to be set, oldest first. Raises StateError for a record that cannot be read."""
    file = store / FILE
    if not is_present(file):
        return []
    rows = read_json_list(file, "pending aliases", _MEND)
    return [as_model(PendingAlias, row, f"pending aliases: {file}, row {n}", _MEND) for n, row in enumerate(rows, 1)]


def write_down(store: Path, target: str, line: str, engine: str) -> PendingAlias:
    """Note that the alias of a target is to name this engine; the newest switch of a target replaces its older one."""
    row = PendingAlias(target=target, line=line, engine=engine, since=utc_now())
    _write(store, [*(one for one in pending_aliases(store) if one.target != target), row])
    return row


def settle(store: Path, target: str, engine: str) -> None:
    """Forget what was noted for a target, now that its alias names this engine; a newer switch's note stays."""
    rows = pending_aliases(store)
    rest = [one for one in rows if (one.target, one.engine) != (target, engine)]
    if len(rest) < len(rows):
        _write(store, rest)


def _write(store: Path, rows: list[PendingAlias]) -> None:
    file = store / FILE
    with disk_full_is_named(file):
        store.mkdir(parents=True, exist_ok=True)
        if rows:
            write_atomic(file, json.dumps([row.model_dump() for row in rows], indent=1) + "\n")
        else:
            file.unlink(missing_ok=True)
