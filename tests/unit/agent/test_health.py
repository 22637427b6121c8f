"""Whether an engine answers, on real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from slipway.agent.health import answers, await_health, base_url, log_tail
from slipway.errors import EngineError
from slipway.system.ports import any_port

HOST, KEY = "127.0.0.1", "ab" * 32


class Handler(BaseHTTPRequestHandler):
    """200 at /ready, a redirect to it at /moved, 200 at /asks with the key KEY, 503 elsewhere."""

    def do_GET(self) -> None:
        asks = 200 if self.headers["Authorization"] == f"Bearer {KEY}" else 401
        self.send_response({"/ready": 200, "/moved": 302, "/asks": asks}.get(self.path, 503))
        self.send_header("Location", "/ready")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer((HOST, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_only_200_counts_whatever_proxy_the_environment_names(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{HOST}:{any_port(HOST)}")  # nobody listens there
    monkeypatch.delenv("no_proxy", raising=False)
    assert answers(HOST, port, "/ready")
    assert not answers(HOST, port, "/moved")
    assert not answers(HOST, port, "/loading")
    assert not answers(HOST, any_port(HOST), "/ready")


def test_an_engine_that_asks_for_a_key_is_asked_with_it(port: int, tmp_path: Path) -> None:
    file = tmp_path / "7.0"
    assert not answers(HOST, port, "/ready", key_file=str(file))  # it is gone: nobody can ask that engine
    file.write_text(KEY)
    file.chmod(0o600)
    assert answers(HOST, port, "/asks", key_file=str(file))
    assert not answers(HOST, port, "/asks")
    await_health(HOST, port, "/asks", 0.0, lambda: True, str, key_file=str(file))


def test_the_wait_ends_at_health_at_death_or_at_its_limit(port: int) -> None:
    await_health(HOST, port, "/ready", 0.0, lambda: True, str)
    with pytest.raises(EngineError, match=r"(?s)not healthy yet.*last words.*healthy within 0 s"):
        await_health(HOST, port, "/loading", 0.0, lambda: True, lambda: "last words")
    with pytest.raises(EngineError, match=r"(?s)died.*last words"):
        await_health(HOST, port, "/loading", 1e9, lambda: False, lambda: "last words")


def test_the_end_of_a_log_is_short_whatever_its_size(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert log_tail(log) == ""
    log.write_bytes(b"".join(b"%d\n" % n for n in range(100_000)) + b"\xff end")
    lines = log_tail(log, lines=3).splitlines()
    assert lines == ["99998", "99999", "\N{REPLACEMENT CHARACTER} end"]


def test_an_ipv6_address_is_in_brackets() -> None:
    assert (base_url("::1", 80), base_url("h", 80)) == ("http://[::1]:80", "http://h:80")
