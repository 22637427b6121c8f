"""Elasticsearch's answers as its documentation has them, sent by a server of the test; a real one answers in
tests/lab/rag/real_stores.py."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from slipway.config.store_address import store_address
from slipway.errors import EngineError, EngineLostError, StateError
from slipway.rag.lexical import Words
from slipway.rag.stores.elasticsearch import ElasticsearchStore
from slipway.rag.stores.store import Record, Row

ROOT = {"version": {"number": "9.2.1", "build_flavor": "default"}, "tagline": "You Know, for Search"}


class Server(BaseHTTPRequestHandler):
    """Answers by method and path; keeps what it was asked."""

    answers: dict[str, tuple[int, object]]
    asked: list[tuple[str, str, str]]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.asked.append((f"{self.command} {self.path}", body, self.headers.get("Authorization", "")))
        status, document = self.answers.get(f"{self.command} {self.path}", (404, {"error": "no such index"}))
        content = document.encode() if isinstance(document, str) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Any]:
    handler = type("Handler", (Server,), {"asked": [], "answers": {"GET /": (200, ROOT)}})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    handler.url = f"elasticsearch://127.0.0.1:{http.server_port}"
    yield handler
    http.shutdown()
    http.server_close()


def store(server: Any, **key: str) -> ElasticsearchStore:
    return ElasticsearchStore(store_address(server.url, **key))


def test_a_key_or_a_user_is_sent_and_shown_nowhere(server: Any) -> None:
    assert store(server, api_key="key-of-9").place == server.url
    ElasticsearchStore(store_address(server.url.replace("//", "//elastic:pass%20word@")))
    assert [sent for _, _, sent in server.asked] == ["ApiKey key-of-9", "Basic ZWxhc3RpYzpwYXNzIHdvcmQ="]
    server.answers["GET /"] = (401, {"error": {"reason": "unable to authenticate"}})
    with pytest.raises(EngineError, match=r"HTTP 401; expected a key that may do this.*SLIPWAY_STORE_API_KEY") as err:
        store(server, api_key="key-of-9")
    assert "key-of-9" not in str(err.value)


@pytest.mark.parametrize(
    ("root", "text"),
    [
        ({"version": {"number": "3.1.0", "distribution": "opensearch"}}, "opensearch 3.1.0; expected Elasticsearch"),
        ({"version": {"number": "7.17.9"}}, r"version 7.17.9; expected 8.13 or later"),
        ({"version": {"number": "new"}}, "version new"),
        ({}, "version none"),
        ([], "version none"),
        ("<html>", "no JSON: '<html>'"),
    ],
)
def test_what_is_no_elasticsearch_is_refused_by_name(server: Any, root: object, text: str) -> None:
    server.answers["GET /"] = (200, root)
    with pytest.raises(EngineError, match=text):
        store(server)


def test_serverless_says_an_older_version(server: Any) -> None:
    server.answers["GET /"] = (200, {"version": {"number": "8.11.0", "build_flavor": "serverless"}})
    assert store(server).place == server.url


def test_scores_of_vectors_are_inner_products_again(server: Any) -> None:
    hits = [{"_id": "7", "_score": 0.95}, {"_id": "3", "_score": 0.95}, {"_id": "1", "_score": 0.2}]
    server.answers["POST /c/_search"] = (200, {"hits": {"hits": hits}})
    ranking = store(server).search("c", np.ones(2, np.float32), 10)
    assert ranking == [(3, pytest.approx(0.9)), (7, pytest.approx(0.9)), (1, pytest.approx(-0.6))]
    body = json.loads(server.asked[-1][1])
    assert body["knn"] == {"field": "vector", "query_vector": [1.0, 1.0], "k": 10, "num_candidates": 10}
    assert store(server).search("c", Words([], {}), 10) == []


def test_an_index_is_made_with_exact_vectors_our_words_and_the_record(server: Any) -> None:
    server.answers["PUT /c"] = (200, {"acknowledged": True})
    store(server).create("c", Record("ab", "cd", 4, 384))
    body = json.loads(server.asked[-1][1])
    fields = body["mappings"]["properties"]
    assert fields["vector"]["index_options"] == {"type": "flat"} and fields["vector"]["similarity"] == "dot_product"
    assert fields["words"]["analyzer"] == "whitespace" and body["settings"]["number_of_shards"] == 1
    assert body["mappings"]["_meta"]["slipway"] == {"index": "ab", "embedder": "cd", "rows": 4, "dimension": 384}
    store(server).create("c", Record("ab", "", 4, 0))
    assert "vector" not in json.loads(server.asked[-1][1])["mappings"]["properties"]


def test_an_index_that_is_there_stays_and_another_refusal_is_raised(server: Any) -> None:
    server.answers["PUT /c"] = (400, {"error": {"reason": "dims must be at most 4096"}})
    with pytest.raises(EngineError, match="dims must be at most 4096"):
        store(server).create("c", Record("ab", "cd", 4, 5000))
    meta = {"slipway": Record("ab", "cd", 4, 384).to_json()}
    server.answers["GET /c/_mapping"] = (200, {"c": {"mappings": {"_meta": meta}}})
    store(server).create("c", Record("ab", "cd", 4, 384))
    server.answers["GET /c/_mapping"] = (200, {"c": {"mappings": {}}})
    with pytest.raises(StateError, match="its record is None"):
        store(server).record("c")


def test_rows_that_are_refused_are_counted_and_named(server: Any) -> None:
    items = [{"index": {"status": 201}}, {"index": {"error": {"reason": "vector has 3 dims"}}}]
    server.answers["POST /c/_bulk?refresh=true"] = (200, {"errors": True, "items": items})
    rows = [Row(n, "d", 0, 1, "x", np.ones(3, np.float32), ("x", "y")) for n in range(2)]
    with pytest.raises(EngineError, match=r"1 of 2 rows refused.*vector has 3 dims"):
        store(server).add("c", rows)
    lines = [json.loads(line) for line in server.asked[-1][1].splitlines()]
    assert (lines[2], lines[3]["words"]) == ({"index": {"_id": "1"}}, "x y")


@pytest.mark.parametrize("as_field", [True, False])
def test_vectors_are_read_from_fields_or_the_source(server: Any, as_field: bool) -> None:
    source: dict[str, Any] = {"document": "d", "start": 0, "end": 4, "text": "text"}
    hit = {"_id": "5", "_source": source if as_field else {**source, "vector": [0.6, 0.8]}}
    hit |= {"fields": {"vector": [0.6, 0.8]}} if as_field else {}
    server.answers["POST /c/_search"] = (200, {"hits": {"hits": [hit]}})
    assert store(server).rows("c", [5])[0].same(Row(5, "d", 0, 4, "text", np.array([0.6, 0.8], np.float32)))


def test_an_alias_is_moved_by_one_call(server: Any) -> None:
    server.answers["GET /_alias/docs"] = (200, {"old": {"aliases": {"docs": {}}}})
    server.answers["POST /_aliases"] = (200, {"acknowledged": True})
    store(server).serve("docs", "new")
    actions = [{"remove": {"index": "old", "alias": "docs"}}, {"add": {"index": "new", "alias": "docs"}}]
    assert json.loads(server.asked[-1][1]) == {"actions": actions}
    server.answers["GET /_alias/docs"] = (200, {"one": {}, "two": {}})
    with pytest.raises(StateError, match="it names one, two; expected one index"):
        store(server).served("docs")
    assert store(server).served("other") is None


@pytest.mark.parametrize("answer", [(200, "[]"), (200, {"hits": {}}), (200, {"hits": {"hits": [{"_id": "x"}]}})])
def test_answers_of_another_form_are_named(server: Any, answer: tuple[int, object]) -> None:
    server.answers["POST /c/_search"] = answer
    for ask in (lambda one: one.search("c", np.ones(2, np.float32), 3), lambda one: one.rows("c", [1])):
        with pytest.raises(EngineError, match="Elasticsearch's form"):
            ask(store(server))


def test_other_statuses_are_named_with_their_reason(server: Any) -> None:
    for status, document, text in (
        (503, {"error": {"reason": "no shard"}}, "HTTP 503 for GET /c/_count: no shard"),
        (301, "moved", "HTTP 301 for GET /c/_count: moved"),
    ):
        server.answers["GET /c/_count"] = (status, document)
        with pytest.raises(EngineError, match=text):
            store(server).count("c")


def test_a_server_that_goes_away_is_transient(server: Any) -> None:
    one = store(server)
    server.answers["GET /c/_count"] = (200, "{")
    with pytest.raises(EngineError, match="no JSON"):
        one.count("c")
    assert EngineLostError.transient
