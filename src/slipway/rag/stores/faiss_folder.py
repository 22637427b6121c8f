"""A folder as a store: what a machine without a server has, and what the others are measured against.

    NAME/record.json                    which index the collection holds
    NAME/rows-BLOCK.npz                 up to 256 rows: `rows`, JSON with words and BM25 weights, and `vectors`, fp32
                                        [rows, dimension]
    ALIAS.alias                         the name of the collection under the alias

Files are replaced whole, so a killed push leaves whole ones. A search reads the collection into memory, once.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from slipway.config.store_address import StoreAddress
from slipway.errors import EngineError, ResourceError
from slipway.rag.lexical import Ranked, Words
from slipway.rag.stores.store import F32, Record, Row, ranked, record_of
from slipway.system.files import write_atomic
from slipway.system.json_files import read_json

BLOCK = 256
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class FaissFolder:
    """See `store.Store`."""

    approximate_bm25 = False

    def __init__(self, address: StoreAddress) -> None:
        assert address.file is not None
        self.place, self._root = address.place, address.file
        self._rows: dict[str, dict[int, Row]] = {}
        self._flat: dict[str, Any] = {}
        if self._root.exists() and not self._root.is_dir():
            raise ResourceError(f"store {self.place}", "a file", "a folder, or no such path", "use another path")

    def create(self, name: str, record: Record) -> None:
        """See `Store`."""
        if self.record(name) is None:
            with self._folder_errors():
                (self._root / name).mkdir(parents=True, exist_ok=True)
                write_atomic(self._root / name / "record.json", json.dumps(record.to_json()) + "\n")

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """See `Store`."""
        blocks = defaultdict[int, dict[int, Row]](dict)
        for row in rows:
            blocks[row.number // BLOCK][row.number] = row
        for block, fresh in blocks.items():
            file = self._root / name / f"rows-{block:08d}.npz"
            before = {row.number: row for row in self._read(file)} if file.is_file() else {}
            with self._folder_errors():
                _write(file, [row for _, row in sorted((before | fresh).items())])
        self._forget(name)

    def search(self, name: str, query: F32 | Words, depth: int) -> Ranked:
        """See `Store`."""
        rows = self._all(name)
        if isinstance(query, Words):
            scores = defaultdict[int, float](float)
            for row in rows.values():
                for word, times in query.counts.items():
                    scores[row.number] += times * (row.weights or {}).get(word, 0.0)
            return ranked([pair for pair in scores.items() if pair[1] > 0], depth)
        if not rows:
            return []
        numbers = list(rows)
        scored, at = self._index(name).search(query[None].astype(np.float32), min(depth, len(numbers)))
        return ranked([(numbers[i], s) for i, s in zip(at[0].tolist(), scored[0].tolist(), strict=True)], depth)

    def count(self, name: str) -> int:
        """See `Store`."""
        return len(self._all(name))

    def drop(self, name: str) -> None:
        """See `Store`."""
        shutil.rmtree(self._root / name, ignore_errors=True)
        self._forget(name)

    def record(self, name: str) -> Record | None:
        """See `Store`."""
        file = self._root / name / "record.json"
        if not file.is_file():
            return None
        return record_of(read_json(file, "record of a collection", "push again"), f"collection {file.parent}")

    def rows(self, name: str, numbers: Sequence[int]) -> list[Row]:
        """See `Store`."""
        rows = self._all(name)
        return [rows[number] for number in numbers if number in rows]

    def served(self, alias: str) -> str | None:
        """See `Store`."""
        file = self._root / f"{alias}.alias"
        if not file.is_file():
            return None
        name = file.read_bytes().strip().decode("ascii", "replace")
        if not _NAME.fullmatch(name):
            wanted = "the name of a collection"
            raise EngineError(f"store {self.place}", f"{file.name} holds {name[:80]!r}", wanted, f"remove {file}")
        return name

    def serve(self, alias: str, name: str) -> None:
        """See `Store`."""
        with self._folder_errors():
            write_atomic(self._root / f"{alias}.alias", f"{name}\n")

    @contextmanager
    def _folder_errors(self) -> Iterator[None]:
        """Raise ResourceError for what the system does not let be written."""
        try:
            yield
        except OSError as err:
            raise ResourceError(
                f"store {self.place}", f"{err.strerror}: {err.filename}", "a folder to write in", "use another path"
            ) from err

    def _all(self, name: str) -> dict[int, Row]:
        if name not in self._rows:
            files = sorted((self._root / name).glob("rows-*.npz"))
            self._rows[name] = {row.number: row for file in files for row in self._read(file)}
        return self._rows[name]

    def _read(self, file: Path) -> list[Row]:
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                documents, vectors = json.loads(arrays["rows"].tobytes()), arrays["vectors"]
            pairs = zip(documents, vectors if vectors.shape[1] else [None] * len(documents), strict=True)
            return [Row(**{**one, "vector": vector, "weights": _numbered(one["weights"])}) for one, vector in pairs]
        except (ValueError, TypeError, KeyError, AttributeError, EOFError, IndexError, zipfile.BadZipFile) as err:
            what = f"{file.name} cannot be read ({type(err).__name__}: {err})"
            raise EngineError(f"store {self.place}", what, "rows as pushed", f"remove {file}, push again") from err

    def _index(self, name: str) -> Any:
        import faiss

        if name not in self._flat:
            vectors = np.stack([row.vector for row in self._all(name).values() if row.vector is not None])
            self._flat[name] = faiss.IndexFlatIP(vectors.shape[1])
            self._flat[name].add(vectors)
        return self._flat[name]

    def _forget(self, name: str) -> None:
        self._rows.pop(name, None)
        self._flat.pop(name, None)


def _write(file: Path, rows: Sequence[Row]) -> None:
    documents = [{**vars(row), "vector": None, "words": list(row.words)} for row in rows]
    vectors = np.array([[] if row.vector is None else row.vector for row in rows], np.float32)
    buffer = io.BytesIO()
    np.savez(buffer, rows=np.frombuffer(json.dumps(documents).encode(), np.uint8), vectors=vectors)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_bytes(buffer.getvalue())
    part.replace(file)


def _numbered(weights: dict[str, float] | None) -> dict[int, float] | None:
    return None if weights is None else {int(word): float(weight) for word, weight in weights.items()}
