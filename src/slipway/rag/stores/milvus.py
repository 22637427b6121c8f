"""Milvus, a server or a file of milvus-lite, by pymilvus (an extra).

    vector     FLAT, inner product: exact
    words      the BM25 weights of the index as a sparse vector, by the word's number; a question is how often it has
               each word, so its inner product is the score of the index
    records    in a collection of their own, by name: a file of milvus-lite keeps no description of a collection
    alias      altered in one call

A text is at most 65,535 bytes, as Milvus' VARCHAR.
"""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from slipway.config.store_address import StoreAddress
from slipway.errors import DataError, EngineError, EngineLostError, StateError
from slipway.rag.lexical import Ranked, Words
from slipway.rag.stores.store import F32, Record, Row, ranked, record_of
from slipway.system.installed import require_extra

TIMEOUT_S = 60.0
LONGEST_TEXT = 65_535  # bytes of a VARCHAR
MOST = 16_384  # rows of one answer
NO_WORD = 2**32 - 2  # the sparse vector of a text without words: a word's number that no question has
RECORDS = "slipway_index_records"
_FIELDS = ["number", "document", "start", "end", "text"]


class MilvusStore:
    """See `store.Store`."""

    approximate_bm25 = False

    def __init__(self, address: StoreAddress) -> None:
        self.place = address.place
        self._milvus = _milvus(address.file is not None)
        self._loaded = set[str]()
        token = address.api_key.get_secret_value() if address.api_key else ":".join(address.user or ())
        with self._errors(lost=address.file is None):
            if address.file is None:
                self._client = self._milvus.MilvusClient(address.base, token=token, timeout=TIMEOUT_S)
            else:
                address.file.parent.mkdir(parents=True, exist_ok=True)
                self._client = self._milvus.MilvusClient(str(address.file))
        weakref.finalize(self, self._client.close)

    def create(self, name: str, record: Record) -> None:
        """See `Store`."""
        if self._exists(name):
            return
        self._write_record(name, record)  # first: a collection without a record would be nobody's
        kind = self._milvus.DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("number", kind.INT64, is_primary=True)
        schema.add_field("document", kind.VARCHAR, max_length=LONGEST_TEXT)
        schema.add_field("start", kind.INT64)
        schema.add_field("end", kind.INT64)
        schema.add_field("text", kind.VARCHAR, max_length=LONGEST_TEXT)
        schema.add_field("words", kind.SPARSE_FLOAT_VECTOR)
        indexes = self._client.prepare_index_params()
        indexes.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        if record.dimension:
            schema.add_field("vector", kind.FLOAT_VECTOR, dim=record.dimension)
            indexes.add_index("vector", index_type="FLAT", metric_type="IP")
        self._create(name, schema, indexes)

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """See `Store`."""
        for row in rows:
            for what, text in (("document", row.document), ("text", row.text)):
                if (size := len(text.encode())) > LONGEST_TEXT:
                    value = f"{what} of {size:,} bytes"
                    advice = "a strategy of shorter chunks"
                    raise DataError(f"chunk {row.number} for {self.place}", value, f"at most {LONGEST_TEXT:,}", advice)
        documents = [_document(row) for row in rows]
        with self._errors():
            self._client.upsert(name, documents, timeout=TIMEOUT_S)

    def search(self, name: str, query: F32 | Words, depth: int) -> Ranked:
        """See `Store`."""
        if isinstance(query, Words):
            pairs = self._search(name, "words", dict(query.counts), depth) if query.counts else []
            return ranked([pair for pair in pairs if pair[1] > 0], depth)
        return ranked(self._search(name, "vector", [float(one) for one in query], depth), depth)

    def count(self, name: str) -> int:
        """See `Store`."""
        if not self._exists(name):
            return 0
        self._load(name)
        options = {"consistency_level": "Strong", "timeout": TIMEOUT_S}
        with self._errors():
            answer = self._client.query(name, filter="", output_fields=["count(*)"], **options)
        return int(answer[0]["count(*)"])

    def drop(self, name: str) -> None:
        """See `Store`."""
        if self._exists(name):
            with self._errors():
                self._client.drop_collection(name, timeout=TIMEOUT_S)
        self._loaded.discard(name)

    def record(self, name: str) -> Record | None:
        """See `Store`."""
        if not self._exists(name):
            return None
        stored = self._get(RECORDS, [name], ["record"]) if self._exists(RECORDS) else []
        return record_of(json.loads(stored[0]["record"]) if stored else None, f"collection {name} of {self.place}")

    def rows(self, name: str, numbers: Sequence[int]) -> list[Row]:
        """See `Store`."""
        with self._errors():
            fields = {one["name"] for one in self._client.describe_collection(name, timeout=TIMEOUT_S)["fields"]}
        stored = self._get(name, list(numbers), [*_FIELDS, *({"vector"} & fields)])
        return sorted((_row(one) for one in stored), key=lambda row: row.number)

    def served(self, alias: str) -> str | None:
        """See `Store`."""
        if not self._exists(alias):
            return None
        with self._errors():
            name = str(self._client.describe_collection(alias, timeout=TIMEOUT_S)["collection_name"])
        if name == alias:
            raise StateError(f"alias {alias} of {self.place}", "a collection", "an alias", "push under another one")
        return name

    def serve(self, alias: str, name: str) -> None:
        """See `Store`."""
        there = self.served(alias) is not None
        self._load(name)
        with self._errors():
            (self._client.alter_alias if there else self._client.create_alias)(name, alias, timeout=TIMEOUT_S)

    def _search(self, name: str, field: str, query: Any, depth: int) -> list[tuple[int, float]]:
        self._load(name)
        options = {"limit": min(depth, MOST), "consistency_level": "Strong", "timeout": TIMEOUT_S}
        with self._errors():
            hits = self._client.search(
                name, data=[query], anns_field=field, search_params={"metric_type": "IP"}, **options
            )[0]
        return [(int(hit["number"]), float(hit["distance"])) for hit in hits]

    def _exists(self, name: str) -> bool:
        with self._errors():
            return bool(self._client.has_collection(name, timeout=TIMEOUT_S))

    def _create(self, name: str, schema: Any, indexes: Any) -> None:
        options = {"consistency_level": "Strong", "timeout": TIMEOUT_S}
        with self._errors():
            self._client.create_collection(name, schema=schema, index_params=indexes, **options)

    def _write_record(self, name: str, record: Record) -> None:
        if not self._exists(RECORDS):
            kind = self._milvus.DataType
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("name", kind.VARCHAR, max_length=255, is_primary=True)
            schema.add_field("record", kind.VARCHAR, max_length=LONGEST_TEXT)
            schema.add_field("vector", kind.FLOAT_VECTOR, dim=2)  # Milvus has no collection without one
            indexes = self._client.prepare_index_params()
            indexes.add_index("vector", index_type="FLAT", metric_type="IP")
            self._create(RECORDS, schema, indexes)
        row = {"name": name, "record": json.dumps(record.to_json()), "vector": [1.0, 0.0]}
        with self._errors():
            self._client.upsert(RECORDS, [row], timeout=TIMEOUT_S)

    def _get(self, name: str, ids: list[Any], fields: list[str]) -> list[dict[str, Any]]:
        self._load(name)
        options = {"consistency_level": "Strong", "timeout": TIMEOUT_S}
        with self._errors():
            return list(self._client.get(name, ids=ids, output_fields=fields, **options))

    def _load(self, name: str) -> None:
        """Have a collection in memory, which Milvus asks for before it is read."""
        if name not in self._loaded:
            with self._errors():
                self._client.load_collection(name, timeout=TIMEOUT_S)
            self._loaded.add(name)

    @contextmanager
    def _errors(self, *, lost: bool = False) -> Iterator[None]:
        """Errors of pymilvus as ours: EngineLostError where nobody answers (and for any while `lost`), EngineError for
        what was refused."""
        failed = self._milvus.exceptions
        try:
            yield
        except (failed.MilvusException, OSError) as err:
            value = _reason(err)
            if lost or isinstance(err, failed.MilvusUnavailableException | failed.ConnectionNotExistException):
                raise EngineLostError(f"store {self.place}", value, "an answer", "start it, then run again") from err
            raise EngineError(f"store {self.place}", value, "a store that takes this", "see its log") from err


def _milvus(in_a_file: bool) -> Any:
    """The package. Raises ResourceError where it, or for a file milvus-lite, is not installed."""
    require_extra("milvus", "pymilvus", *(["milvus_lite"] if in_a_file else []))
    import pymilvus

    for name in ("pymilvus", "milvus_lite", "grpc._server"):  # they log each error whole, and raise it as well
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return pymilvus


def _document(row: Row) -> dict[str, Any]:
    document: dict[str, Any] = {"number": row.number, "document": row.document, "start": row.start, "end": row.end}
    document |= {"text": row.text, "words": dict(row.weights or {}) or {NO_WORD: 1.0}}
    return document if row.vector is None else {**document, "vector": [float(one) for one in row.vector]}


def _row(stored: dict[str, Any]) -> Row:
    vector = np.array(stored["vector"], np.float32) if "vector" in stored else None
    place = str(stored["document"]), int(stored["start"]), int(stored["end"]), str(stored["text"])
    return Row(int(stored["number"]), *place, vector)


def _reason(err: BaseException) -> str:
    message = getattr(err, "message", "") or str(err)
    return f"{type(err).__name__}: {message}"[:500]
