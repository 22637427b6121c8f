"""Rows by the million: the rows themselves in a file, and of each row the few numbers that cleaning and splitting
compare.

A row takes its bytes on the disk, four bytes for every word of its prompt and some 80 bytes of columns in memory, and
no Python object. Texts are compared by 64-bit BLAKE2b digests: among a million different ones two are equal with a
probability of 3e-8. Words are compared by CRC-32, which serves similarity only.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from unicodedata import normalize
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from slipway.data import strict_json
from slipway.data.messages import Message, calls_of
from slipway.data.rows import Row, answer_json, answer_key
from slipway.data.text import folded, tokens
from slipway.system.files import canonical

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
_UINT64 = ("order", "identity", "text", "answer", "context", "wording")
_INT32 = ("label", "template", "shape", "system_words")
NAMES = ("label", "template", "shape")


@dataclass(frozen=True)
class RowTable:
    """Rows in a file and their columns, each an array with one value a row.

    `number`: the line or record of the source, uint64. `order`: place in a shuffle by the seed and the row's id.
    `identity`: the whole conversation with its answer and tools. `text`: the conversation before the answer, folded.
    `context`: system prompt and tools. `answer`: one value per answer by meaning. `wording`: the turns' tokens.
    `named`: whether the row came with a template. `regrouped`: whether `template` differs from what the file holds.
    `label`, `template`, `shape`: indices into `labels`, `templates` and `shapes` (the keys of a JSON answer), int32.
    `words`: CRC-32 of the prompts' tokens, uint32, those of row i from `word_starts[i]` on, of which the first
    `system_words[i]` are the system prompt's.
    """

    number: U64
    order: U64
    identity: U64
    text: U64
    answer: U64
    context: U64
    wording: U64
    label: NDArray[np.int32]
    template: NDArray[np.int32]
    shape: NDArray[np.int32]
    system_words: NDArray[np.int32]
    named: NDArray[np.int8]
    words: NDArray[np.uint32]
    word_starts: I64
    labels: Sequence[str]
    templates: Sequence[str]
    shapes: Sequence[frozenset[str]]
    _starts: U64
    _lines: mmap.mmap | bytes
    regrouped: bool = False

    def __len__(self) -> int:
        return len(self.number)

    def line(self, i: int) -> bytes:
        """Row `i` as one line of JSON."""
        return strict_json.encode(self.row(i)) + b"\n" if self.regrouped else self._line(i)

    def _line(self, i: int) -> bytes:
        return self._lines[int(self._starts[i]) : int(self._starts[i + 1])]

    def row(self, i: int) -> Row:
        """Row `i`."""
        row: Row = json.loads(self._line(i))
        return {**row, "template": self.templates[self.template[i]]}

    def write(self, path: Path, rows: I64) -> None:
        """Write these rows as JSONL, in their order."""
        with path.open("wb") as f:
            f.writelines(self.line(i) for i in rows.tolist())


class TableBuilder:
    """Takes complete rows one by one. `folder`: where the file of rows lives, without a name, as long as
    a table reads it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._file: IO[bytes] = TemporaryFile(dir=folder)  # noqa: SIM115 (lives as long as the table)
        self._seed = seed
        self._starts, self._at = array("Q", [0]), 0
        self._number = array("Q")
        self._digests = {name: array("Q") for name in _UINT64}
        self._indices = {name: array("i") for name in _INT32}
        self._words, self._word_starts = array("I"), array("q", [0])
        self._named = array("b")
        self._names: dict[str, dict[Any, int]] = {name: {} for name in NAMES}

    def __len__(self) -> int:
        return len(self._number)

    def __del__(self) -> None:
        self._file.close()  # a table keeps its own hold on the bytes

    def add(self, number: int, row: Row, *, named: bool = True) -> None:
        """Append a row that has its id, label and template; `named`: it came with that template. Raises ValueError for
        text that cannot be written."""
        line = strict_json.encode(row) + b"\n"
        values = self._values(row)
        self._file.write(line)
        self._at += len(line)
        self._starts.append(self._at)
        self._number.append(number)
        self._named.append(named)
        for name, value in values.items():
            self._digests[name].append(value)
        shape = frozenset(answer_json(row) or ())
        for name, key in (("label", row["label"]), ("template", row["template"]), ("shape", shape)):
            self._indices[name].append(self._names[name].setdefault(key, len(self._names[name])))

    def _values(self, row: Row) -> dict[str, int]:
        system, turns, context = _parts(row)
        texts = [_text(message) for message in turns]
        answer = answer_key(row)
        roles = "".join(message["role"][0] for message in turns)
        whole = "\0".join([context, roles, *(normalize("NFC", text) for text in texts)])
        spoken = _crc(text for text in texts)
        before_them = _crc([system]) if system else array("I")
        self._indices["system_words"].append(len(before_them))
        self._words.extend(before_them)
        self._words.extend(spoken)
        self._word_starts.append(len(self._words))
        name = hashlib.sha256(f"{self._seed}:{row['id']}".encode()).digest()
        return {
            "order": int.from_bytes(name[:8], "big"),
            "identity": digest64(f"{whole}\0{answer}"),
            "text": _asked(context, texts),
            "answer": digest64(answer),
            "context": digest64(context),
            "wording": _digest(spoken.tobytes()),
        }

    def finish(self) -> RowTable:
        """The table of what was added."""
        self._file.flush()
        lines = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if len(self) else b""
        digests: dict[str, Any] = {name: np.frombuffer(values, np.uint64) for name, values in self._digests.items()}
        indices: dict[str, Any] = {name: np.frombuffer(values, np.int32) for name, values in self._indices.items()}
        names = {name: list(index) for name, index in self._names.items()}
        return RowTable(
            number=np.frombuffer(self._number, np.uint64),
            **{**digests, **indices},
            named=np.frombuffer(self._named, np.int8),
            words=np.frombuffer(self._words, np.uint32),
            word_starts=np.frombuffer(self._word_starts, np.int64),
            labels=names["label"],
            templates=names["template"],
            shapes=names["shape"],
            _starts=np.frombuffer(self._starts, np.uint64),
            _lines=lines,
        )


def asked(row: Row) -> int:
    """What a row asks, whatever its answer: its value in `RowTable.text`."""
    _, turns, context = _parts(row)
    return _asked(context, [_text(message) for message in turns])


def _parts(row: Row) -> tuple[str, list[Message], str]:
    """System prompt, turns before the answer, and what every row of one context has in common."""
    *before, _ = row["messages"]
    system = before[0]["content"] if before[0]["role"] == "system" else ""
    context = normalize("NFC", system) + (canonical(row["tools"]).decode() if "tools" in row else "")
    return system, before[1:] if system else before, context


def _asked(context: str, texts: Iterable[str]) -> int:
    return digest64("\0".join([folded(context), *(folded(text) for text in texts)]))


def digest64(text: str) -> int:
    """BLAKE2b of a text as UTF-8, 64 bits. Half surrogates count as they are."""
    return _digest(text.encode("utf-8", "surrogatepass"))


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def _text(message: Message) -> str:
    calls = calls_of(message)
    return f"{message['content']}\n{canonical(calls).decode()}" if calls else str(message["content"])


def _crc(texts: Iterable[str]) -> array[int]:
    return array("I", [crc32(token.encode("utf-8", "surrogatepass")) for text in texts for token in tokens(text)])
