"""Which files a release ships, in which layers: the engine's bundle, its model cut by layers, the index that goes with
it, and the documents.

    engine/serve.json, engine/model.gguf, ...    the engine artifact's files
    engine/model/                                the checkpoint that the engine loads, where it loads one
    engine/caches/                               what makes starts warm; one layer, modes and mtimes as harvested
    index/index.json, index/vectors.faiss, ...   the sealed index that the release is searched with, where it has one
    card.md, verdict.json, sbom.json, ...        documents, a layer each

A layer is what changes together: a file of weights, the tokenizer, the plan of the server, all caches.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.agent.artifact import MANIFEST
from slipway.agent.bundle.layer_tar import ROOT, Member
from slipway.agent.paths import INDEX
from slipway.agent.records import Fields, read_json
from slipway.deployment.bundle.layer_cuts import Content, Span, cut, size_of, uncut
from slipway.engines.bundle import MODEL, SERVE, model_of, read_plan
from slipway.engines.warm_cache import FILES
from slipway.engines.warm_cache import FOLDER as CACHES
from slipway.errors import BundleError
from slipway.store.artifacts import Engine, SearchIndex

ENGINE, FILES_DOCUMENT = "engine/", "files.json"
LARGE = 1 << 20  # bytes of a file of the engine or the index that gets a layer of its own
_TOKENIZER = re.compile(
    r"(tokenizer|vocab|merges|special_tokens|added_tokens|chat_template|spiece|sentencepiece|tekken)"
)
_PARTS = {
    "card": "card",
    "verdict": "decision",
    "decision": "decision",
    "evaluation": "evaluation",
    "sbom": "sbom",
    "files": "files",
}


@dataclass(frozen=True)
class File:
    """A file of the release: its member in the layer, and where its bytes come from."""

    member: Member
    content: Content


@dataclass(frozen=True)
class Part:
    """A layer to be: what it is for, which part, its files."""

    role: str
    name: str
    files: tuple[File, ...]


def engine_parts(engine: Engine, *, whole: bool = False) -> tuple[list[Part], list[str]]:
    """The layers of an engine, and notes on what is left out. `whole`: weights keep their files, as for a release that
    links them.

    Raises EngineError for a bundle without a plan, CheckpointError for weights that cannot be read, BundleError for a
    link out of the engine and a path that no bundle may have."""
    plan = read_plan(engine.path, here=False)
    words = [*plan.argv, *plan.files.values(), *plan.environment.values()]
    parts, small = [], []
    for path in sorted(engine.path.rglob("*")):
        name = path.relative_to(engine.path).as_posix()
        if (path.is_dir() and not path.is_symlink()) or name.startswith((f"{MODEL}/", f"{CACHES}/")):
            continue
        file = _file(path, ENGINE + name)
        if name == SERVE:
            parts.append(Part("engine", "serve-config", (file,)))
        elif file.member.size >= LARGE:
            parts.append(Part("engine", "engine-file", (file,)))
        else:
            small.append(file)
    parts += [Part("engine", "engine-records", tuple(small))] if small else []
    caches = sorted(path for path in (engine.path / CACHES).rglob("*") if path.is_symlink() or not path.is_dir())
    if caches:
        rows = tuple(_cached(path, ENGINE + path.relative_to(engine.path).as_posix()) for path in caches)
        parts.append(Part("cache", "caches", rows))
    if not any("{model}" in word for word in words):
        return parts, []
    model, notes = model_parts(model_of(engine.path), whole=whole)
    return [*parts, *model], notes


def model_parts(model: Path, *, whole: bool = False) -> tuple[list[Part], list[str]]:
    """The layers of a model directory below `engine/model/`: weights, tokenizer, configs; notes on files left out.
    `whole`: as of `engine_parts`."""
    from slipway.weights.model_files import small_files

    weights = uncut(model) if whole else cut(model)
    folder = f"{ENGINE}{MODEL}/"
    parts = [Part("engine", "weights", (_new(folder + name, content),)) for name, content in weights.items()]
    names = [*(path.as_posix() for path in small_files(model)), "config.json", "hf_quant_config.json"]
    present = sorted({name for name in names if (model / name).is_file()})
    files = {name: _file(model / name, folder + name) for name in present}
    for part in ("tokenizer", "model-config"):
        rows = tuple(f for name, f in files.items() if bool(_TOKENIZER.match(name)) == (part == "tokenizer"))
        parts += [Part("engine", part, rows)] if rows else []
    left = sorted(path.name for path in model.iterdir() if path.name not in {*files, *weights})
    left = [name for name in left if not name.endswith(".safetensors") and not (model / name).is_dir()]
    note = f"not shipped with the model: {len(left)} files that no engine reads ({', '.join(left[:5])})"
    return parts, [note] if left else []


def index_parts(index: SearchIndex) -> list[Part]:
    """The layers of an index below `index/`: each large file, the small ones, and its manifest by itself, which is
    another one where the same bytes were made again. Raises BundleError for a link or a file that cannot be read."""
    parts, small = [], []
    for path in sorted(index.path.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(index.path).as_posix()
        file = _file(path, f"{INDEX}/{name}")
        if name == MANIFEST:
            parts.append(Part("index", "index-manifest", (file,)))
        elif file.member.size >= LARGE:
            parts.append(Part("index", "index-file", (file,)))
        else:
            small.append(file)
    return [*parts, Part("index", "index-records", tuple(small))] if small else parts


def document_part(name: str, text: str) -> Part:
    """The layer of one document."""
    data = text.encode()
    stem = name.partition(".")[0]
    return Part("document", _PARTS.get(stem, "document"), (File(Member(ROOT + name, len(data)), (data,)),))


def document_parts(documents: Mapping[str, str]) -> list[Part]:
    """The layers of documents: name in the release -> text."""
    return [document_part(name, documents[name]) for name in sorted(documents)]


def files_part(members: Iterable[Mapping[str, Any]]) -> Part:
    """The layer of `files.json`: size, mode and mtime of every other file, which signatures of models leave out."""
    files = {
        row["name"].removeprefix(ROOT): [row["size"], f"{row['mode']:04o}", row["mtime_ns"]]
        for row in sorted(members, key=lambda row: row["name"])
    }
    return document_part(FILES_DOCUMENT, json.dumps({"files": files}, indent=0) + "\n")


def check_files_document(tree: Path, statuses: Mapping[str, os.stat_result]) -> None:
    """Raise BundleError unless `files.json` of a tree lists these files with their sizes, modes and, where it has one,
    mtimes. Its own bytes are the signature's to vouch for."""
    document = read_json(tree / FILES_DOCUMENT, "list of the release's files", "fetch the release again")
    rows = Fields(document, f"list {tree / FILES_DOCUMENT}", "fetch the release again").document("files")
    for name, status in sorted(statuses.items()):
        if name == FILES_DOCUMENT:
            continue
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        row = rows.get(name)
        if not isinstance(row, list) or len(row) != 3:
            raise BundleError(f"file {tree / name}", "not listed", f"a row of {FILES_DOCUMENT}", "remove it")
        for what, now, then in (("size", status.st_size, row[0]), ("mode", mode, row[1])):
            if now != then:
                raise BundleError(f"file {tree / name}", f"{what} {now}", str(then), "fetch the release again")
        if row[2] and status.st_mtime_ns != row[2]:
            raise BundleError(f"file {tree / name}", f"mtime {status.st_mtime_ns} ns", str(row[2]), "unpack it again")


def _new(name: str, content: Content) -> File:
    return File(Member(ROOT + name, size_of(content)), content)


def _file(path: Path, name: str) -> File:
    """A file as it ships: readable by all, and executable when its owner may execute it."""
    status = _status(path, name)
    mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    return File(Member(ROOT + name, status.st_size, mode), (Span(path, 0, status.st_size),))


def _cached(path: Path, name: str) -> File:
    """A file of the caches: its mode and its mtime decide whether it is used. Their manifest is a plain file."""
    if not name.startswith(f"{ENGINE}{CACHES}/{FILES}/"):
        return _file(path, name)
    status = _status(path, name)
    member = Member(ROOT + name, status.st_size, stat.S_IMODE(status.st_mode) & 0o777, status.st_mtime_ns)
    return File(member, (Span(path, 0, status.st_size),))


def _status(path: Path, name: str) -> os.stat_result:
    """Of the file, or of the file that a link in a store leads to."""
    try:
        status = path.stat()
    except OSError as err:
        raise BundleError(
            f"file {name}", err.strerror or str(err), "a readable file", "build the engine again"
        ) from err
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"file {name}", "no regular file", "files only", "build the engine again")
    return status
