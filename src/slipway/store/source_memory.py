"""Analyses of source files that outlive the process, for whoever asks for keys often and makes nothing: `slipway plan`.

    <store>/code-versions.json   {"of": digest of the analysis' own code, "sources": {sha256 of the text: analysis}}

By the text: a file that changed is another entry. What makes artifacts reads the files themselves, without this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slipway.errors import SlipwayError
from slipway.store import source_code
from slipway.store.source_code import Import, Source
from slipway.system.files import sha256_bytes, sha256_file, write_atomic
from slipway.system.json_files import is_present, read_json

FILE = "code-versions.json"
_MEMORY: ContextVar[dict[str, Any] | None] = ContextVar("analysed sources", default=None)


@contextmanager
def remembered(root: Path) -> Iterator[None]:
    """While the block runs, take analyses out of the store at `root`, and leave new ones there. A file that is damaged,
    of another version or cannot be written costs time only."""
    file, of = root / FILE, sha256_file(Path(source_code.__file__))
    sources: dict[str, Any] = {}
    with suppress(SlipwayError):
        if is_present(file) and (document := read_json(file, "analysed sources", "")).get("of") == of:
            sources = dict(document["sources"])
    before = len(sources)
    token = _MEMORY.set(sources)
    try:
        yield
    finally:
        _MEMORY.reset(token)
    if len(sources) > before and root.is_dir():
        with suppress(OSError):
            write_atomic(file, json.dumps({"of": of, "sources": sources}) + "\n")


def known(analyse: Callable[[str, str, bool], Source], text: str, name: str, is_package: bool) -> Source:
    """What `analyse` says of this text, or has said before."""
    memory = _MEMORY.get()
    if memory is None:
        return analyse(text, name, is_package)
    key = sha256_bytes(f"{name}\n{is_package}\n{text}".encode())
    if key not in memory:
        source = analyse(text, name, is_package)
        memory[key] = {**asdict(source), "names": sorted(source.names)}
    row = memory[key]
    return Source(row["digest"], tuple(Import(**one) for one in row["imports"]), frozenset(row["names"]))
