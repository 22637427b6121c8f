"""Holds of a target: while the whole target is held nothing replaces what serves; a held release is never deleted.

    <root>/holds.json   [{"release": "0003-3fa9c1d2", "by": "ann", "since": "2026-11-28T22:00:00Z", "reason": "audit"}]

One hold for each release (null: the whole target) and user; the same again gives it a new reason and keeps its date.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway.agent.agent import Agent, Document, Note

from slipway.errors import DataError, ResourceError, StateError

FILE = "holds.json"
NAME = re.compile(r"\d{4,}-[0-9a-f]{8}")
LONGEST = {"by": 200, "reason": 500, "since": 40}
MAX_BYTES = 1 << 20
_MEND = "put back a copy of it; or delete it: then nothing is held"


def holds(root: Path) -> list[dict[str, Any]]:
    """The holds of a target, oldest first; empty where there are none. Raises StateError for a record that cannot be
    read: nobody can tell then whether it is held."""
    file = root / FILE
    try:
        if file.stat().st_size > MAX_BYTES:
            raise StateError(f"holds: {file}", f"{file.stat().st_size} bytes", f"at most {MAX_BYTES}", _MEND)
        rows = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as err:
        raise StateError(f"holds: {file}", f"{type(err).__name__}: {err}", "a JSON array of holds", _MEND) from err
    if not isinstance(rows, list) or not all(_is_hold(row) for row in rows):
        raise StateError(f"holds: {file}", str(rows), "objects with release, by, since and reason", _MEND)
    return rows


def hold(root: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Verb `hold`: `{"release": name or null, "by": user, "reason": text}` -> `{"holds": [...]}`, all of them.

    Raises DataError for a request without a user or a reason, or for a release that is not here.
    """
    subject = _subject(root, document)
    texts = {key: _text(document, key) for key in ("by", "reason")}
    with _alone(root):
        rows = holds(root)
        same = next((row for row in rows if (row["release"], row["by"]) == (subject, texts["by"])), None)
        if same:
            same["reason"] = texts["reason"]
        else:
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            rows.append({"release": subject, "by": texts["by"], "since": since, "reason": texts["reason"]})
        _write(root, rows)
    return {"holds": rows}


def unhold(root: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Verb `unhold`: `{"release": name or null}` -> `{"removed": [...], "holds": [...]}`: every hold on it, whoever
    made it. A release that is gone may be named: its hold goes too."""
    subject = document.get("release")
    with _alone(root):
        rows = holds(root)
        removed = [row for row in rows if row["release"] == subject]
        rest = [row for row in rows if row["release"] != subject]
        if removed:
            _write(root, rest)
    return {"removed": removed, "holds": rest}


def hold_verb(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001 (every verb has this shape)
    """`hold` for the agent's table of verbs."""
    return hold(agent.paths.root, document)


def unhold_verb(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001
    """`unhold` for the agent's table of verbs."""
    return unhold(agent.paths.root, document)


def holds_verb(agent: Agent, document: Document, note: Note) -> Document:  # noqa: ARG001
    """`holds`: `{"holds": [...]}`, as they are."""
    return {"holds": holds(agent.paths.root)}


def sentences(rows: list[dict[str, Any]]) -> list[str]:
    """One sentence for each hold on the whole target."""
    return [f"by {row['by']} since {row['since']}: {row['reason']}" for row in rows if row["release"] is None]


def held_releases(root: Path) -> set[str]:
    """Releases that a hold names: they are never deleted."""
    return {row["release"] for row in holds(root) if row["release"] is not None}


def require_free(root: Path) -> None:
    """Raise ResourceError naming every hold on the whole target; return when nothing holds it."""
    if held := sentences(holds(root)):
        raise ResourceError(
            f"target {root}", f"held {'; '.join(held)}", "a target that nobody holds", "`slipway unhold`"
        )


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One change of the record at a time. Not the target's lock: a hold may be set while a promotion works, and counts
    from the next one on."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{FILE}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_hold(row: Any) -> bool:
    if not isinstance(row, dict) or set(row) != {"release", "by", "since", "reason"}:
        return False
    texts = all(isinstance(row[key], str) and 0 < len(row[key]) <= most for key, most in LONGEST.items())
    release = row["release"]
    return texts and (release is None or (isinstance(release, str) and NAME.fullmatch(release) is not None))


def _subject(root: Path, document: Mapping[str, Any]) -> str | None:
    """The release to hold, which is here; None for the whole target."""
    name = document.get("release")
    if name is None:
        return None
    folder = root / "releases"
    names = sorted(p.name for p in folder.iterdir() if NAME.fullmatch(p.name)) if folder.is_dir() else []
    if name not in names:
        raise DataError(
            "release to hold", name, f"one of {', '.join(names) or '(none)'}", "`slipway status` lists them"
        )
    return str(name)


def _text(document: Mapping[str, Any], key: str) -> str:
    """A text of the request in one line, without control characters."""
    value = document.get(key)
    text = " ".join("".join(c if c.isprintable() else " " for c in value).split()) if isinstance(value, str) else ""
    if not 0 < len(text) <= LONGEST[key]:
        raise DataError(f"{key} of the hold", str(value), f"a text of 1 to {LONGEST[key]} characters", f"give a {key}")
    return text


def _write(root: Path, rows: list[dict[str, Any]]) -> None:
    """Replace the record in one rename, on the disk before it counts."""
    fresh = root / f".{FILE}.{os.getpid()}"
    with fresh.open("w", encoding="utf-8") as file:
        file.write(json.dumps(rows, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(root / FILE)
    folder = os.open(root, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
