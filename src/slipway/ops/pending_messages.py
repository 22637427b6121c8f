"""Messages that could not be sent when their event was: Prefect, whose blocks send them, was away. Written down in the
store, oldest first; the next run that Prefect knows of sends them (`tasks/notify.py`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from slipway.config.notify import Kind
from slipway.ops.message import Message
from slipway.system.files import disk_full_is_named, write_atomic
from slipway.system.json_files import as_model, is_present, read_json_list
from slipway.system.locks import locked

FILE = "pending-messages.json"
MOST = 100  # older ones are nobody's news
_LOCK_S = 60.0
_MEND = "delete it: only what it holds is not told of"


class _Row(BaseModel):
    """A message as the file holds it."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    event: str
    subject: str
    text: str
    next_step: str


def pending_messages(store: Path) -> list[Message]:
    """What is still to be sent. Raises StateError for a record that cannot be read."""
    file = store / FILE
    if not is_present(file):
        return []
    rows = read_json_list(file, "pending messages", _MEND)
    parsed = [as_model(_Row, row, f"pending messages: {file}, row {n}", _MEND) for n, row in enumerate(rows, 1)]
    return [Message(**row.model_dump()) for row in parsed]


def write_down(store: Path, message: Message) -> None:
    """Note a message for whoever reaches Prefect next. Raises as `pending_messages`."""
    _change(store, lambda rows: [*(row for row in rows if row.event != message.event), message][-MOST:])


def settle(store: Path, message: Message) -> None:
    """Forget a message that was sent, or that nobody wants any more."""
    _change(store, lambda rows: [row for row in rows if row.event != message.event])


def _change(store: Path, change: Callable[[list[Message]], list[Message]]) -> None:
    file = store / FILE
    with disk_full_is_named(file):
        store.mkdir(parents=True, exist_ok=True)
        with locked(file.with_name(f"{FILE}.lock"), _LOCK_S, "a message"):
            rows = change(pending_messages(store))
            if rows:
                write_atomic(file, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
            else:
                file.unlink(missing_ok=True)
