"""A checkpoint cut anew for shipping: one safetensors file a decoder layer, so that a release moves only what changed.

    model-layer-00000.safetensors ...    tensors of one decoder layer, or of a few neighbours where there are many
    model-outside.safetensors            everything else: norms, towers, what has no number
    model-outside-NAME.safetensors       each large tensor of it by itself: embedding, head
    model.safetensors.index.json         which tensor lies where

Tensors are the same, byte for byte; headers and files are new. A file is described by spans of the old ones and is
never written here: packing copies the spans where they are wanted. Engines read any names that the index gives (vLLM
and TensorRT-LLM take `*.safetensors`, transformers the index). A GGUF file is not cut: llama.cpp serves only on the
machine that its bundle was built on, where releases are hard links.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.errors import CheckpointError

if TYPE_CHECKING:
    from slipway.weights.shard_header import Entry

MOST_FILES = 90  # with tokenizer, documents and caches below what an image may have, `MOST_LAYERS`
LARGE = 256 << 20  # bytes of a tensor outside of the layers that gets its own file
MOST_BYTES = 4 << 30  # of a file: registries fail on blobs of more than 5 GB
_NUMBERED = re.compile(r"(?P<stem>(?:[^.0-9]+\.)*?[^.0-9]+)\.(?P<number>\d+)\.")
_ODD = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True)
class Span:
    """Bytes of a file that exists: `size` from `start` on."""

    file: Path
    start: int
    size: int


Content = tuple[bytes | Span, ...]


@dataclass(frozen=True)
class Stored:
    """A tensor where it lies now."""

    name: str
    entry: Entry
    file: Path


def cut(model: Path) -> dict[str, Content]:
    """Files of the model's weights as they ship: name -> content. Reads headers only.

    A model whose config.json names its weights file keeps its files. Raises CheckpointError for damaged headers, and
    for a tensor that is in two files.
    """
    from slipway.weights.checkpoint_files import INDEX, SINGLE, shard_files, weights_file

    file = weights_file(model)
    shards = [model / name for name in shard_files(file)]
    if file.name not in (SINGLE, INDEX):
        whole = {shard.name: _whole(shard) for shard in shards}
        return whole if file in shards else {**whole, file.name: _whole(file)}
    tensors = _read(shards)
    groups = _groups(tensors)
    files = {f"model-{name}.safetensors": group for name, group in groups.items()}
    weight_map = {one.name: name for name, group in files.items() for one in group}
    total = sum(one.entry.nbytes for one in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    contents = {name: _content(group) for name, group in files.items()}
    return {**contents, INDEX: ((json.dumps(index, indent=1) + "\n").encode(),)}


def uncut(model: Path) -> dict[str, Content]:
    """Files of the model's weights as they are: name -> content. For a machine that has them, where a release is links.
    Raises CheckpointError for a damaged index."""
    from slipway.weights.checkpoint_files import shard_files, weights_file

    file = weights_file(model)
    shards = [model / name for name in shard_files(file)]
    return {one.name: _whole(one) for one in dict.fromkeys([*shards, file])}


def size_of(content: Content) -> int:
    """Bytes of a content."""
    return sum(len(part) if isinstance(part, bytes) else part.size for part in content)


def _whole(file: Path) -> Content:
    return (Span(file, 0, file.stat().st_size),)


def _read(shards: list[Path]) -> list[Stored]:
    """All tensors of these files, by name."""
    from slipway.weights.shard_header import read_header

    tensors: dict[str, Stored] = {}
    for shard in shards:
        for name, entry in read_header(shard)[0].items():
            if name in tensors:
                value = f"in {tensors[name].file.name} and in {shard.name}"
                raise CheckpointError(f"tensor {name}", value, "one place", "save the checkpoint again")
            tensors[name] = Stored(name, entry, shard)
    return [tensors[name] for name in sorted(tensors)]


def _groups(tensors: list[Stored]) -> dict[str, list[Stored]]:
    """Tensors of each file, by the file's name without ends; none is larger than registries take where that can be."""
    stem = _decoder_stem(tensors)
    layers: dict[int, list[Stored]] = {}
    outside: dict[str, list[Stored]] = {}
    for one in tensors:
        match = _NUMBERED.match(one.name)
        if match and match["stem"] == stem:
            layers.setdefault(int(match["number"]), []).append(one)
        else:
            own = one.entry.nbytes >= LARGE
            outside.setdefault(f"outside-{_ODD.sub('-', one.name)}" if own else "outside", []).append(one)
    step = -(-len(layers) // max(1, MOST_FILES - len(outside)))
    groups: dict[str, list[Stored]] = {}
    for place, number in enumerate(sorted(layers)):
        first = sorted(layers)[place - place % step]
        groups.setdefault(f"layer-{first:05d}", []).extend(layers[number])
    return _bounded({**groups, **outside}, sum(one.entry.nbytes for one in tensors))


def _decoder_stem(tensors: list[Stored]) -> str:
    """What stands before the number in the names of the decoder's layers: of all that are numbered, the most bytes."""
    nbytes: Counter[str] = Counter()
    for one in tensors:
        if match := _NUMBERED.match(one.name):
            nbytes[match["stem"]] += one.entry.nbytes
    return nbytes.most_common(1)[0][0] if nbytes else ""


def _bounded(groups: Mapping[str, list[Stored]], total: int) -> dict[str, list[Stored]]:
    """Groups of more bytes than a registry takes, cut between tensors, as long as the number of files allows it."""
    most = max(MOST_BYTES, total // max(1, MOST_FILES - len(groups)))
    bounded: dict[str, list[Stored]] = {}
    for name, group in groups.items():
        part, nbytes = 0, 0
        for one in group:
            if nbytes and nbytes + one.entry.nbytes > most:
                part, nbytes = part + 1, 0
            bounded.setdefault(name if part == 0 else f"{name}-{part:02d}", []).append(one)
            nbytes += one.entry.nbytes
    return bounded


def _content(group: list[Stored]) -> Content:
    """A safetensors file of these tensors: a new header, then the old bytes; neighbours in it are one span."""
    from slipway.weights.shard_layout import file_layout
    from slipway.weights.shards import TensorInfo

    by_name = {one.name: one for one in group}
    layout = {name: TensorInfo(one.entry.dtype, one.entry.shape) for name, one in by_name.items()}
    header, begins, _ = file_layout(layout)
    spans: list[Span] = []
    for name in sorted(begins, key=lambda name: (begins[name], by_name[name].entry.nbytes)):
        one = by_name[name]
        last = spans[-1] if spans else None
        if last and last.file == one.file and last.start + last.size == one.entry.offset:
            spans[-1] = Span(last.file, last.start, last.size + one.entry.nbytes)
        elif one.entry.nbytes:
            spans.append(Span(one.file, one.entry.offset, one.entry.nbytes))
    return (header, *spans)
