"""What a run did, left for whoever waits for it in this process and for whoever looks into the store later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from slipway.config.store import StoreConfig
from slipway.system.files import disk_full_is_named, write_atomic

_SUMMARY: ContextVar[dict[str, Any] | None] = ContextVar("summary", default=None)


def summary_file(params: StoreConfig) -> Path:
    """What the last run did: stages, quality, gate, endpoint, links. JSON."""
    return Path(params.root) / "last-run.json"


@contextmanager
def own_summary() -> Iterator[dict[str, Any]]:
    """What the run opened in the block does, filled when it ends, however it ends; empty when none began.

    Not read from the store: another run of the same store may have written its own file since.
    """
    summary: dict[str, Any] = {}
    token = _SUMMARY.set(summary)
    try:
        yield summary
    finally:
        _SUMMARY.reset(token)


def leave_summary(summary: dict[str, Any], file: Path) -> None:
    """Give the summary to whoever waits for it in this process, and leave it in the store."""
    waiting = _SUMMARY.get()
    if waiting is not None:
        waiting.update(summary)
    with disk_full_is_named(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(summary, indent=1) + "\n")
