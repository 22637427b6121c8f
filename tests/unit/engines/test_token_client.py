"""Ids and log-probabilities as llama-server and vLLM write them, and what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from slipway.agent.engine_key import EngineAccess
from slipway.engines.token_client import TokenClient, WrittenTokens
from slipway.errors import EngineError
from slipway.system.progress import Progress

Reply = Callable[[str, dict[str, Any]], tuple[int, Any]]


@contextmanager
def answering(reply: Reply, keys: list[str | None] | None = None) -> Iterator[str]:
    """A server whose answer to a POST is `reply(path, body)`: status and JSON, or bytes as they are; `keys`: what each
    request had for authorization."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if keys is not None:
                keys.append(self.headers["Authorization"])
            status, document = reply(self.path, body)
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def native(ids: list[int], known: list[tuple[int, float]]) -> dict[str, Any]:
    return {"tokens": ids, "completion_probabilities": [{"id": one, "logprob": value} for one, value in known]}


def openai(ids: list[int], values: list[float]) -> dict[str, Any]:
    return {"choices": [{"token_ids": ids, "logprobs": {"token_logprobs": values}}]}


def ask(reply: Reply, kind: str = "llama.cpp", prompts: list[list[int]] | None = None) -> list[WrittenTokens]:
    with answering(reply) as url:
        return TokenClient(kind, url, "m", 5).write(prompts or [[1, 2]], 3, 2, Progress())


def test_llama_server_is_asked_at_its_own_endpoint() -> None:
    asked = []

    def reply(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        asked.append((path, body))
        first = body["prompt"][0]
        return 200, native([first, 8, 9], [(first, -0.1), (8, -0.2), (9, -0.3)])

    written = ask(reply, prompts=[[1, 2], [3], [4]])
    assert [one.tokens for one in written] == [(1, 8, 9), (3, 8, 9), (4, 8, 9)]
    assert written[0] == WrittenTokens((1, 2), (1, 8, 9), (-0.1, -0.2, -0.3))
    assert {path for path, _ in asked} == {"/completion"}
    expected = {"n_predict": 3, "temperature": 0, "ignore_eos": True, "n_probs": 1, "return_tokens": True}
    assert all(expected.items() <= body.items() for _, body in asked)


@pytest.mark.parametrize(("key", "sent"), [("ab", "Bearer ab"), ("", None)])
def test_an_engine_that_asks_for_a_key_gets_it(key: str, sent: str | None) -> None:
    keys: list[str | None] = []
    with answering(lambda *_: (200, native([7], [(7, -0.1)])), keys) as url:
        TokenClient("llama.cpp", url, "m", 5, EngineAccess(key)).write([[1]], 1, 1, Progress())
    assert keys == [sent]


@pytest.mark.parametrize("kind", ["vllm", "trtllm", "trtllm-engine"])
def test_others_are_asked_for_completions(kind: str) -> None:
    asked = []

    def reply(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        asked.append((path, body))
        return 200, openai([7, 8, 9], [-0.1, -0.2, 0])

    assert ask(reply, kind)[0].log_probabilities == (-0.1, -0.2, 0.0)
    ((path, body),) = asked
    assert path == "/v1/completions"
    assert body.items() >= {"max_tokens": 3, "return_token_ids": True, "ignore_eos": True, "model": "m"}.items()


@pytest.mark.parametrize(
    ("ids", "known", "expected"),
    [
        ([5, 6, 7], [(5, -1.0), (7, -2.0)], (-1.0, None, -2.0)),
        ([5, 5, 7], [(5, -1.0), (7, -2.0)], (None, None, -2.0)),  # which 5 has it, nobody says
        ([5, 6, 5], [(6, -1.0), (5, -2.0)], (None, -1.0, -2.0)),
        ([5, 6, 7], [], (None, None, None)),
    ],
)
def test_tokens_without_a_log_probability_have_none(
    ids: list[int], known: list[tuple[int, float]], expected: tuple[float | None, ...]
) -> None:
    (one,) = ask(lambda *_: (200, native(ids, known)))
    assert one.log_probabilities == expected


@pytest.mark.parametrize(
    ("kind", "status", "document", "words"),
    [
        ("llama.cpp", 200, {"content": "text alone"}, "no token ids"),
        ("llama.cpp", 200, native([5, 6, 7], [(9, -1.0)]), "not in the answer"),
        ("llama.cpp", 200, native([5, 6], [(5, -1.0)]), "2 tokens, asked for 3"),
        ("llama.cpp", 200, [1], "no token ids"),
        ("vllm", 200, {"choices": [{"text": "x"}]}, "no token ids"),
        ("vllm", 200, {"choices": []}, "no token ids"),
        ("vllm", 200, openai([5, 6, 7], [-1.0]), "3 ids, 1 log-probabilities"),
        ("vllm", 400, {"error": "unknown field return_token_ids" + 1000 * "x"}, "status 400"),
        ("vllm", 200, b"<html>", "JSONDecodeError"),
    ],
)
def test_an_engine_without_ids_is_refused(kind: str, status: int, document: Any, words: str) -> None:
    with pytest.raises(EngineError, match=words) as error:
        ask(lambda *_: (status, document), kind)
    assert len(str(error.value)) < 800


def test_a_lost_server_is_named() -> None:
    with answering(lambda *_: (200, {})) as url:
        gone = url
    with pytest.raises(EngineError, match="ConnectError"):
        TokenClient("vllm", gone, "m", 5).write([[1]], 3, 1, Progress())
