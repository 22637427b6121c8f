"""An embedder behind HTTP: its answers checked, long texts in windows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipway.config.rag import EmbedderConfig
from slipway.errors import EngineError, EngineLostError
from slipway.rag.embedder_files import embedder_files, facts_of
from slipway.rag.embedding_server import BATCH, ServedEmbedder
from tests.support.pico_embedder import pico_embedder, tokenizer


class Server(BaseHTTPRequestHandler):
    """Vectors of the letters of a text, in reverse order; or what `answer` says."""

    asked: list[dict[str, Any]]
    answer: Any

    def do_POST(self) -> None:
        """Answer /v1/embeddings."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append(body)
        rows = [
            {"index": at, "embedding": [text.count(c) + 0.5 for c in "abcde"]} for at, text in enumerate(body["input"])
        ]
        content = json.dumps({"data": rows[::-1]} if self.answer is None else self.answer).encode()
        self.send_response(500 if self.answer == "broken" else 200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[tuple[type[Server], str]]:
    handler = type("Handler", (Server,), {"asked": [], "answer": None})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def embedder(url: str, tmp_path: Path, **change: Any) -> ServedEmbedder:
    params = EmbedderConfig(source="url", url=url, model="m", max_length=16, **change)
    return ServedEmbedder(params, facts_of(params, embedder_files(pico_embedder(tmp_path), tmp_path)), tokenizer())


def test_vectors_come_in_the_order_of_the_texts(server: Any, tmp_path: Path) -> None:
    handler, url = server
    texts = [f"{'a' * n} b" for n in range(BATCH + 3)]
    got = embedder(url, tmp_path, query_prefix="c ").queries(texts)
    raw = np.array([[n + 0.5, 1.5, 1.5, 0.5, 0.5] for n in range(BATCH + 3)])
    assert np.allclose(got, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)
    assert [len(body["input"]) for body in handler.asked] == [BATCH, 3]
    assert embedder(url, tmp_path).passages([]).shape == (0, 0)


def test_a_long_text_is_asked_in_windows(server: Any, tmp_path: Path) -> None:
    handler, url = server
    (got,) = embedder(url, tmp_path).passages(["a " * 14 + "b " * 7])
    assert [len(text.split()) for text in handler.asked[0]["input"]] == [14, 7]
    units = np.array([[14.5, 0.5, 0.5, 0.5, 0.5], [0.5, 7.5, 0.5, 0.5, 0.5]])
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    mean = 14 * units[0] + 7 * units[1]
    assert np.allclose(got, mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize(
    ("answer", "change", "words"),
    [
        ("broken", {}, "HTTP 500"),
        ({"rows": []}, {}, "OpenAI's form"),
        ({"data": []}, {}, "0 vectors"),
        ({"data": [{"index": 0, "embedding": [1, 2]}]}, {"dimension": 3}, r"of \[2\] numbers"),
        ({"data": [{"index": 0, "embedding": ["x"]}]}, {}, "OpenAI's form"),
    ],
)
def test_what_is_no_answer_is_refused(server: Any, tmp_path: Path, answer: Any, change: Any, words: str) -> None:
    handler, url = server
    handler.answer = answer
    with pytest.raises(EngineError, match=words):
        embedder(url, tmp_path, **change).queries(["a"])


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineLostError, match=r"embedder http://127\.0\.0\.1:9/v1/embeddings"):
        embedder("http://127.0.0.1:9", tmp_path).queries(["a"])
