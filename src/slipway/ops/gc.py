"""What a store no longer needs: found, shown, and removed when asked.

Kept: what the targets' releases were made of (the serving one and those that `rollback` can go back to), what the last
run made, the index that `slipway rag search` opens, the newest verdict and the newest adapter of every line, each with
all they were made from; what somebody works on; what `slipway serve` uses or used in the last two weeks; and everything
that Slipway did not write. Removed: other artifacts, damaged copies, half-written ones, work folders and locks nobody
uses, old logs.

Removal needs the store for itself: a run or stage that works holds its lock shared, and one that starts meanwhile
waits. An artifact is renamed before its files go, so that a kill leaves artifacts whole or gone, never in part.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.agent.paths import TargetPaths
from slipway.agent.releases import Releases
from slipway.config.load import Config
from slipway.deployment.candidate import line_of
from slipway.engines.served import room, served_folders
from slipway.errors import ConfigError, StateError
from slipway.ops.index_pointer import pointer
from slipway.ops.training_jobs import PREFIX, training_jobs
from slipway.pipeline.stage import STAGE_FILE
from slipway.store.artifacts import Adapter, SearchIndex, Verdict
from slipway.store.key import KEY_FORMAT
from slipway.store.store import load
from slipway.store.usage import SERVE, SERVICES, TARGETS, USE_LOCK, Entry, entries, freed_bytes
from slipway.system.files import fsync_directory, remove
from slipway.system.json_files import is_present, read_json
from slipway.system.locks import is_held, locked

LOG_DAYS = 14
UNKNOWN_LINE = "an unknown line"
DAY_S = 86400.0


@dataclass(frozen=True)
class Item:
    """An entry of the store, whether it goes, and why. `action`: `keep`, `remove` or `unknown`."""

    action: str
    what: str
    name: str
    path: Path
    bytes: int
    why: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**vars(self), "path": str(self.path)}


def plan(config: Config, jobs: Collection[str] | None = None) -> list[Item]:
    """Everything in the store of `config`, with what is to become of it. Reads only. `jobs`: names of the training jobs
    that run, where they have been asked for already.

    Raises StateError when a record that says what is needed (a release, the last run) cannot be read: then nothing can
    be called unneeded.
    """
    root = Path(config.store.root).resolve()
    present = entries(root)
    jobs = {job.name for job in training_jobs(config)[0]} if jobs is None else jobs
    works = {e.name: _why_work_stays(e, jobs, _newest_training(present)) for e in present if e.what == "work"}
    needed = _needed(config, root, present, works)
    return [*(_item(entry, needed, works) for entry in present), *_served(root / SERVE), *_old_logs(root)]


def collect(config: Config) -> list[Item]:
    """Remove what `plan` says, and return what was removed. Raises ResourceError while a run or a stage uses the
    store."""
    root = Path(config.store.root).resolve()
    if not root.is_dir():
        return []
    removed = []
    served = room(root / SERVE) if (root / SERVE).is_dir() else nullcontext()
    with locked(root / USE_LOCK, 0.0, "slipway gc", of=f"store {root}"), served:
        for item in plan(config):
            if item.action == "remove":
                _remove(item.path)
                removed.append(item)
    return removed


def _remove(path: Path) -> None:
    """A folder is out of its place in one step, and its files go after that."""
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(f".tmp-gc-{path.name[:16].replace('.', '_')}-{os.getpid()}")
        remove(aside)
        path.rename(aside)
        fsync_directory(path.parent)
        path = aside
    remove(path)


def _needed(config: Config, root: Path, present: list[Entry], works: dict[str, str]) -> dict[str, str]:
    """Digest -> why it stays: the roots and all that they were made from."""
    by_digest = {e.digest: e for e in present if e.is_artifact}
    reasons: dict[str, str] = {}

    def keep(digests: Iterable[str], why: str) -> None:
        pending = list(digests)
        while pending:
            digest = pending.pop()
            if digest not in reasons:
                reasons[digest] = why
                pending += by_digest[digest].inputs if digest in by_digest else ()

    for digests, why in _released(config, root):
        keep(digests, why)
    keep(_last_run(root), "the last run made or used it")
    keep(_searched(root, present), "the index of `slipway rag search`, or what it was made from")
    for cls in (Verdict, Adapter):
        for line, newest in _newest_by_line(cls, config, present).items():
            keep([newest.digest], f"the newest {cls.kind} of {line}, or what it was made from")
    for name in (name for name, why in works.items() if why):
        keep(_inputs_of(root / "work" / name), f"{name} works with it or resumes with it")
    return reasons


def _newest_by_line(cls: type[Verdict | Adapter], config: Config, present: list[Entry]) -> dict[str, Entry]:
    """Line -> the newest artifact of this kind; those whose lineage names no line are one group of their own."""
    newest: dict[str, Entry] = {}
    for entry in sorted((e for e in present if e.what == cls.kind), key=lambda e: e.made, reverse=True):
        try:
            line = line_of(load(cls, entry.path), config)
        except (StateError, ConfigError):
            line = UNKNOWN_LINE
        newest.setdefault(line, entry)
    return newest


def _released(config: Config, root: Path) -> Iterator[tuple[list[str], str]]:
    """What each release of each target was made of, the serving one first."""
    folders = {Path(config.deploy.root).expanduser().resolve(), *(p.resolve() for p in (root / TARGETS).glob("*"))}
    for folder in sorted(folders):
        releases = Releases(TargetPaths(folder))
        current = releases.current()
        for name in sorted(releases.names(), key=lambda name: name != current):
            role = "serves" if name == current else "can be rolled back to"
            try:
                digests = list(releases.read(name)["digests"].values())
            except StateError:
                if name == current:
                    raise
                continue  # it holds its engine itself and `slipway status` names it; it cannot come back as it is
            yield digests, f"release {name} of {folder.name} {role}"


def _last_run(root: Path) -> list[str]:
    """Digests in the summary that the last run left."""
    file = root / "last-run.json"
    if not is_present(file):
        return []
    rows = read_json(file, "summary of the last run", "delete it, or run again").get("stages", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise StateError(
            f"summary of the last run: {file}", f"stages: {rows!r:.200}", "rows", "delete it, or run again"
        )
    return [str(row["digest"]) for row in rows if row.get("digest")]


def _searched(root: Path, present: list[Entry]) -> list[str]:
    """The digest of the index that was built last."""
    pointed = pointer(root)
    indexes = (entry for entry in present if entry.what == SearchIndex.kind and entry.is_artifact)
    return [entry.digest for entry in indexes if pointed and entry.name == pointed[0]]


def _inputs_of(work: Path) -> list[str]:
    """Digests of what the stage of this work folder reads; none when nobody can tell."""
    if not is_present(work / STAGE_FILE):
        return []
    inputs = read_json(work / STAGE_FILE, "stage file", f"delete {work}").get("inputs", {})
    return [ref["digest"] for ref in inputs.values() if isinstance(ref, dict) and isinstance(ref.get("digest"), str)]


def _newest_training(present: list[Entry]) -> str:
    """The newest work folder with checkpoints of a training: days of work that the next run goes on with."""
    saved = [
        e
        for e in present
        if e.what == "work" and any(any((e.path / sub).glob("*")) for sub in ("checkpoints", "nemo/ckpt"))
    ]
    return max(saved, key=lambda e: e.made).name if saved else ""


def _why_work_stays(entry: Entry, jobs: Collection[str], newest_training: str) -> str:
    """Why a work folder stays; empty when nobody needs it."""
    if is_held(entry.path.with_name(f"{entry.name}.lock")):
        return "a stage works in it"
    if f"{PREFIX}{entry.name}" in jobs:
        return "its training job runs"
    return "the newest unfinished training: run again to resume" if entry.name == newest_training else ""


def _item(entry: Entry, needed: dict[str, str], works: dict[str, str]) -> Item:
    action, why = _fate(entry, needed, works)
    return Item(action, entry.what, entry.name, entry.path, entry.bytes, why)


def _fate(entry: Entry, needed: dict[str, str], works: dict[str, str]) -> tuple[str, str]:
    if entry.what == "unknown":
        return "unknown", "nothing that Slipway writes, or without a manifest that can be read"
    if entry.what == "damaged":
        return "remove", "a damaged copy; the artifact was made again"
    if entry.what == "half-written":
        return "remove", "left by a process that was killed"
    if entry.what == "work":
        return ("keep", works[entry.name]) if works[entry.name] else ("remove", "nobody works in it")
    if entry.what == "lock":
        in_use = is_held(entry.path) or works.get(entry.name.removesuffix(".lock"), "")
        return ("keep", "its stage is in use") if in_use else ("remove", "nobody holds it")
    if entry.digest in needed:
        return "keep", needed[entry.digest]
    if entry.key_format != KEY_FORMAT:
        return "remove", f"its key has format {entry.key_format}: no run reuses it"
    return "remove", "no release, not the last run, and nothing that is kept was made from it"


def _served(root: Path) -> Iterator[Item]:
    """Folders of `slipway serve`: what a server uses stays, and what was served in the last two weeks."""
    for one in served_folders(root):
        days = (time.time() - one.used) / DAY_S
        if one.in_use:
            action, why = "keep", "a server uses it"
        elif days > LOG_DAYS:
            action, why = "remove", f"last served {days:.0f} days ago; `slipway serve` makes it again"
        else:
            action, why = "keep", f"served {days:.0f} days ago"
        what = f"{why}: {one.directory}" if one.directory else why
        yield Item(action, "served", one.home.name, one.home, freed_bytes(one.home), what)


def _old_logs(root: Path) -> Iterator[Item]:
    """Logs of services and targets that were rotated out, not written for two weeks."""
    for folder in (root / SERVICES, root / TARGETS):
        for file in sorted(folder.rglob("*.log.*")):
            age = time.time() - file.lstat().st_mtime
            if (
                file.is_file()
                and not file.is_symlink()
                and re.fullmatch(r".+\.log\.\d+", file.name)
                and age > LOG_DAYS * DAY_S
            ):
                yield Item(
                    "remove", "log", file.name, file, freed_bytes(file), f"rotated out, {age / DAY_S:.0f} days old"
                )


def freeable(items: Iterable[Item]) -> dict[str, int]:
    """Count and bytes of what would go."""
    going = [item for item in items if item.action == "remove"]
    return {"count": len(going), "bytes": sum(item.bytes for item in going)}
