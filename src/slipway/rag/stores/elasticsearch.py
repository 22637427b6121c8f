"""Elasticsearch over HTTP, 8.13 or later, by its own documented calls: no client package is needed.

    vector     dense_vector, `flat`: exact inner products of unit vectors in fp32; its score is (1 + product) / 2
    words      the words of the index, cut here and not there; BM25 with k1 1.5 and b 0.75
    _meta      the record of the mapping
    alias      moved by one call of _aliases, which is atomic

One shard, or BM25 would count words by shard. Lucene stores a text's length in one byte (exact up to 40 words), so its
BM25 scores differ from those of the index by a few percent, and neighbours may change places. OpenSearch has no
dense_vector and is refused by name.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from slipway.config.store_address import StoreAddress
from slipway.errors import EngineError, EngineLostError, StateError
from slipway.rag.lexical import Ranked, Words
from slipway.rag.stores.store import F32, Record, Row, ranked, record_of

TIMEOUT_S = 120.0
OLDEST = (8, 13)
MOST_CANDIDATES = 10_000  # of a search, by Elasticsearch's default
_BM25 = {"type": "BM25", "k1": 1.5, "b": 0.75}


class ElasticsearchStore:
    """See `store.Store`."""

    approximate_bm25 = True

    def __init__(self, address: StoreAddress) -> None:
        import httpx

        self.place = address.place
        headers = {"Content-Type": "application/json"}
        if address.api_key is not None:
            headers["Authorization"] = f"ApiKey {address.api_key.get_secret_value()}"
        auth = None if address.api_key is not None else address.user
        self._http = httpx.Client(base_url=address.base, headers=headers, auth=auth, timeout=TIMEOUT_S)
        weakref.finalize(self, self._http.close)
        self._check_server()

    def create(self, name: str, record: Record) -> None:
        """See `Store`."""
        fields: dict[str, Any] = {
            "document": {"type": "keyword"},
            "start": {"type": "long"},
            "end": {"type": "long"},
            "text": {"type": "text", "index": False},
            "words": {"type": "text", "analyzer": "whitespace", "similarity": "slipway"},
        }
        if record.dimension:
            fields["vector"] = {
                "type": "dense_vector",
                "dims": record.dimension,
                "index": True,
                "similarity": "dot_product",
                "index_options": {"type": "flat"},
            }
        body = {
            "settings": {"number_of_shards": 1, "similarity": {"slipway": _BM25}},
            "mappings": {"dynamic": "strict", "_meta": {"slipway": record.to_json()}, "properties": fields},
        }
        if self._ask("PUT", f"/{name}", body, absent=400) is None and self.record(name) is None:
            self._ask("PUT", f"/{name}", body)  # refused, and not because it is there: raises what it says

    def add(self, name: str, rows: Sequence[Row]) -> None:
        """See `Store`."""
        lines = list[str]()
        for row in rows:
            document = {"document": row.document, "start": row.start, "end": row.end, "text": row.text}
            document |= {"words": " ".join(row.words)}
            document |= {} if row.vector is None else {"vector": [float(one) for one in row.vector]}
            lines += [json.dumps({"index": {"_id": str(row.number)}}), json.dumps(document)]
        answer = self._ask("POST", f"/{name}/_bulk?refresh=true", "\n".join([*lines, ""]))
        with self._form():
            errors = [one["index"]["error"] for one in answer["items"] if one["index"].get("error")]
        if errors:
            self._refuse(f"{len(errors)} of {len(rows)} rows refused: {errors[0]}", "rows taken", "look at its log")

    def search(self, name: str, query: F32 | Words, depth: int) -> Ranked:
        """See `Store`."""
        size = min(depth, MOST_CANDIDATES)
        body: dict[str, Any] = {"size": size, "_source": False}
        if isinstance(query, Words):
            if not query.words:
                return []
            body["query"] = {"match": {"words": {"query": " ".join(query.words), "operator": "or"}}}
            return ranked(self._hits(name, body), depth)
        vector = [float(one) for one in query]
        body["knn"] = {"field": "vector", "query_vector": vector, "k": size, "num_candidates": size}
        return ranked([(number, 2 * score - 1) for number, score in self._hits(name, body)], depth)

    def count(self, name: str) -> int:
        """See `Store`."""
        answer = self._ask("GET", f"/{name}/_count", absent=404)
        with self._form():
            return 0 if answer is None else int(answer["count"])

    def drop(self, name: str) -> None:
        """See `Store`."""
        self._ask("DELETE", f"/{name}", absent=404)

    def record(self, name: str) -> Record | None:
        """See `Store`."""
        answer = self._ask("GET", f"/{name}/_mapping", absent=404)
        if answer is None:
            return None
        with self._form():
            meta = answer[name]["mappings"].get("_meta", {})
        return record_of(meta.get("slipway"), f"index {name} of {self.place}")

    def rows(self, name: str, numbers: Sequence[int]) -> list[Row]:
        """See `Store`."""
        body = {
            "size": len(numbers),
            "query": {"ids": {"values": [str(number) for number in numbers]}},
            "_source": {"excludes": ["vector", "words"]},
            "fields": ["vector"],  # later versions leave vectors out of _source
        }
        answer = self._ask("POST", f"/{name}/_search", body)
        with self._form():
            return sorted((_row(hit) for hit in answer["hits"]["hits"]), key=lambda row: row.number)

    def served(self, alias: str) -> str | None:
        """See `Store`."""
        names = sorted(self._ask("GET", f"/_alias/{alias}", absent=404) or ())
        if len(names) > 1:
            raise StateError(
                f"alias {alias} of {self.place}",
                f"it names {', '.join(names)}",
                "one index",
                "push under another alias",
            )
        return names[0] if names else None

    def serve(self, alias: str, name: str) -> None:
        """See `Store`."""
        before = self.served(alias)
        removed = [{"remove": {"index": before, "alias": alias}}] if before and before != name else []
        self._ask("POST", "/_aliases", {"actions": [*removed, {"add": {"index": name, "alias": alias}}]})

    def _hits(self, name: str, body: Mapping[str, Any]) -> list[tuple[int, float]]:
        answer = self._ask("POST", f"/{name}/_search", body)
        with self._form():
            return [(int(hit["_id"]), float(hit["_score"])) for hit in answer["hits"]["hits"]]

    def _check_server(self) -> None:
        answer = self._ask("GET", "/")
        version = answer.get("version", {}) if isinstance(answer, dict) else {}
        number = str(version.get("number", "none"))
        if version.get("distribution"):
            self._refuse(f"{version['distribution']} {number}", "Elasticsearch", "push to Elasticsearch or Milvus")
        try:
            recent = tuple(int(part) for part in number.split(".")[:2]) >= OLDEST
        except ValueError:
            recent = False
        if not recent and version.get("build_flavor") != "serverless":
            self._refuse(f"version {number}", f"{OLDEST[0]}.{OLDEST[1]} or later", "update it")

    def _ask(self, method: str, path: str, body: object = None, *, absent: int | None = None) -> Any:
        """The JSON of an answer; None for the status `absent`. Raises EngineLostError without an answer, EngineError
        for any other status."""
        import httpx

        content = body if isinstance(body, str) or body is None else json.dumps(body)
        try:
            answer = self._http.request(method, path, content=content)
        except httpx.HTTPError as err:
            what = f"{type(err).__name__}: {err}"
            raise EngineLostError(f"store {self.place}", what, "an answer", "start it, then run again") from err
        if answer.status_code == absent:
            return None
        if answer.status_code in (401, 403):
            self._refuse(f"HTTP {answer.status_code}", "a key that may do this", "set SLIPWAY_STORE_API_KEY")
        if answer.status_code >= 300:
            self._refuse(
                f"HTTP {answer.status_code} for {method} {path}: {_reason(answer.text)}", "HTTP 200", "see its log"
            )
        try:
            return answer.json()
        except ValueError:
            self._refuse(f"no JSON: {answer.text[:200]!r}", "Elasticsearch's answer", "check the address")

    @contextmanager
    def _form(self) -> Iterator[None]:
        """Raise EngineError for an answer that is not of the documented form."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            value = f"another answer ({type(err).__name__}: {err})"
            raise EngineError(f"store {self.place}", value, "Elasticsearch's form", "check the address") from err

    def _refuse(self, value: str, expected: str, next_step: str) -> NoReturn:
        raise EngineError(f"store {self.place}", value, expected, next_step)


def _row(hit: Mapping[str, Any]) -> Row:
    source = hit["_source"]
    stored = hit.get("fields", {}).get("vector") or source.get("vector")
    vector = None if stored is None else np.array(stored, np.float32)
    place = source["document"], int(source["start"]), int(source["end"]), source["text"]
    return Row(int(hit["_id"]), *place, vector)


def _reason(text: str) -> str:
    """What Elasticsearch says of an error, in one line."""
    try:
        error = json.loads(text)["error"]
        return str(error["reason"] if isinstance(error, dict) else error)[:500]
    except (ValueError, KeyError, TypeError):
        return text[:300]
