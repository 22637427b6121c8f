"""Versions of a run's raw data: what git records of DVC's digest, what was announced, and the bytes of one version.

A version is DVC's digest of `data.raw` in a commit: in its `.dvc` file (`dvc add`) or in `dvc.lock`. Publishing pushes
the bytes to DVC's remote first, so that whoever hears of a version can have it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from slipway.data.dvc_lock import LOCK, digest_now, locked_digest, locked_stage_name
from slipway.errors import BusyError, DataError
from slipway.ops.commands import dvc, git
from slipway.system.files import disk_full_is_named, write_atomic
from slipway.system.locks import locked

SEEN_FILE = "data-versions.json"
LAST_LINES = 8
_LOCK_S = 60.0


@dataclass(frozen=True)
class DataVersion:
    """`path`: the raw file below the project's root; `digest`: DVC's md5 of it; `revision`: the commit that records it,
    empty in a project that is no git checkout."""

    path: str
    digest: str
    revision: str = ""

    def checked(self) -> DataVersion:
        """This version, as an event may name it. Raises DataError for what is no md5 or no commit: both become parts of
        paths and commands."""
        for name, value, pattern in (
            ("digest", self.digest, "[0-9a-f]{32}"),
            ("revision", self.revision, "|[0-9a-f]{7,64}"),
        ):
            if not re.fullmatch(pattern, value):
                expected = "DVC's md5, 32 hex digits" if name == "digest" else "the hex digits of a commit, or nothing"
                raise DataError(f"{name} of a data version", repr(value)[:100], expected, "`slipway data publish`")
        return self

    def __str__(self) -> str:
        return f"{self.path} {self.digest[:12]}{f' of commit {self.revision[:12]}' if self.revision else ''}"

    def to_json(self) -> dict[str, str]:
        """As plain values."""
        return asdict(self)


def path_of(root: Path, raw: str) -> str | None:
    """`data.raw` as git and DVC name it, below the root; None for a file elsewhere."""
    file = root / Path(raw).expanduser()
    file = file.parent.resolve() / file.name  # DVC may have made the file itself a link into its cache
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else None


def committed_version(root: Path, raw: str, at: str = "HEAD") -> DataVersion | None:
    """The version that the commit `at` records; without git, the one that the files record. None where none does.

    Raises DataError for a record that cannot be read."""
    if (path := path_of(root, raw)) is None:
        return None
    code, revision = git(root, "rev-parse", "--verify", "--quiet", f"{at}^{{commit}}")
    if code != 0:
        recorded = locked_digest(root, root / path)
        return DataVersion(path, recorded) if recorded and at == "HEAD" else None
    folder = git(root, "rev-parse", "--show-prefix")[1]  # the project may be a folder of its repository
    for name in (f"{path}.dvc", LOCK):
        code, text = git(root, "show", f"{revision}:{folder}{name}")
        if code == 0 and (digest := _digest_in(text, path, f"{name} of commit {revision[:12]}")):
            return DataVersion(path, digest, revision)
    return None


def upstream_version(root: Path, raw: str) -> tuple[DataVersion | None, str]:
    """The version at the branch that this one follows, after `git fetch`, else at HEAD; and what could not be asked."""
    code, upstream = git(root, "rev-parse", "--abbrev-ref", "--symbolic-full-name", "@{upstream}")
    if code != 0:
        return committed_version(root, raw), ""
    code, output = git(root, "fetch", "--quiet")
    problem = f"git fetch: {_last(output, 1)}; what was fetched before counts" if code else ""
    return committed_version(root, raw, upstream), problem


def publish(root: Path, raw: str) -> DataVersion:
    """Push the bytes of the version that HEAD records to DVC's remote. Raises DataError where file, DVC's record and
    commit are not one version, or the push fails; BusyError while another dvc command works."""
    if (path := path_of(root, raw)) is None:
        raise DataError("data.raw", raw, f"a file below {root}, which DVC can version", "`dvc import-url` it there")
    recorded, file = locked_digest(root, root / path), root / path
    if recorded is None:
        raise DataError(f"data.raw {path}", "not tracked by DVC", "a file that DVC versions", f"`dvc add {path}`")
    if not file.exists():
        raise DataError(f"data.raw {path}", "is missing", "the file that DVC recorded", f"`dvc checkout {path}`")
    if (now := digest_now(file)) != recorded:
        next_step = f"`dvc add {path}` (or `dvc repro`), and commit"
        raise DataError(f"data.raw {path}", f"digest {now[:12]}", f"{recorded[:12]} as DVC recorded", next_step)
    version = committed_version(root, raw)
    if version is None or version.digest != recorded:
        recorded_as = f"{version.digest[:12]} in HEAD" if version else "in no commit"
        next_step = f"`git add {path}.dvc` (or {LOCK}) and `git commit`, then publish again"
        raise DataError(f"version {recorded[:12]} of {path}", recorded_as, "a version that a commit records", next_step)
    _run_dvc(root, f"dvc push {path}", "push", path)
    return version


def bytes_of(root: Path, version: DataVersion, folder: Path) -> Path:
    """The file of this version in `folder`: copied from the working tree where that has it, else fetched by DVC, once.
    Not the working tree's own, which somebody may add rows to while the run works; but for what a stage of dvc.yaml
    makes: there `prepare` compares splits and lock.

    Raises DataError where neither working tree nor DVC's remote has it.
    """
    here = root / version.path
    in_tree = here.is_file() and locked_digest(root, here) == version.digest == digest_now(here)
    if in_tree and locked_stage_name(root, here):
        return here
    file = folder / version.digest / Path(version.path).name
    if file.is_file() and digest_now(file) == version.digest:
        return file
    if in_tree and _copied(here, file, version.digest):
        return _recorded(file, version)
    if not version.revision:
        expected = "the working tree's version, in a project without git"
        raise DataError(f"data version {version}", "not in the working tree", expected, "put the file there")
    file.unlink(missing_ok=True)
    with disk_full_is_named(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    get = ("get", ".", version.path, "--rev", version.revision, "-o", str(file), "--force")
    _run_dvc(root, f"dvc get {version.path} --rev {version.revision[:12]}", *get)
    if (got := digest_now(file)) != version.digest:
        file.unlink()
        raise DataError(f"data version {version}", f"digest {got[:12]}", version.digest, "publish it again")
    return _recorded(file, version)


def _copied(source: Path, file: Path, digest: str) -> bool:
    """Whether a copy is of this digest: the source may change meanwhile."""
    with disk_full_is_named(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, file)
    return digest_now(file) == digest


def _recorded(file: Path, version: DataVersion) -> Path:
    """The file, with the record by which the dataset names its DVC revision."""
    record = {"outs": [{"md5": version.digest, "hash": "md5", "path": file.name}]}
    write_atomic(file.with_name(f"{file.name}.dvc"), yaml.safe_dump(record))
    return file


def last_seen(store: Path, path: str) -> DataVersion | None:
    """The version of `path` that was announced or taken last, None before the first and for a damaged record."""
    row = _seen(store).get(path)
    if not isinstance(row, dict) or not isinstance(row.get("digest"), str):
        return None
    return DataVersion(path, row["digest"], str(row.get("revision", "")))


def remember(store: Path, version: DataVersion) -> None:
    """Record that this version of its file is known."""
    file = store / SEEN_FILE
    with locked(file.with_name(f"{SEEN_FILE}.lock"), _LOCK_S, "record of a data version"):
        known = {**_seen(store), version.path: {"digest": version.digest, "revision": version.revision}}
        write_atomic(file, json.dumps(known, indent=1) + "\n")


def _seen(store: Path) -> dict[str, Any]:
    """All that is recorded; a damaged record counts as none: the next look writes it anew and starts nothing."""
    try:
        document = json.loads((store / SEEN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _digest_in(text: str, path: str, where: str) -> str | None:
    """DVC's digest of `path` in the text of a `.dvc` file or of `dvc.lock`."""
    try:
        document = yaml.safe_load(text)
        groups = [document] if where.startswith(f"{path}.dvc ") else list(document["stages"].values())
        outs = [out for group in groups for out in group.get("outs", ())]
        name = Path(path).name if groups == [document] else path
        digests = [out["md5"] for out in outs if isinstance(out, Mapping) and out.get("path") == name]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as err:
        raise DataError(where, f"unreadable: {type(err).__name__}", "the file that DVC writes", "restore it") from err
    return str(digests[0]) if digests else None


def _run_dvc(root: Path, title: str, *arguments: str) -> None:
    code, output = dvc(root, *arguments)
    if code:
        kind = BusyError if "acquire lock" in output else DataError
        raise kind(
            title,
            _last(output, LAST_LINES),
            "a remote of DVC that has, or takes, this version (`dvc remote list`)",
            f"mend what it says (`dvc push {arguments[1] if arguments[0] == 'push' else arguments[2]}` there)",
        )


def _last(text: str, lines: int) -> str:
    return "\n".join(text.splitlines()[-lines:])
