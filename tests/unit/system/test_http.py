"""The health check: statuses, silence, redirects, passwords, and no proxy between a machine and itself."""

from __future__ import annotations

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from slipway.errors import ResourceError
from slipway.system import http
from slipway.system.ports import any_port


class Server(ThreadingHTTPServer):
    """Answers every GET with `status`; `asked` holds path and headers of each."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.asked = 200, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "/login")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def make_server():
    servers = []

    def make():
        server = Server()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server

    yield make
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server(make_server):
    return make_server()


@pytest.fixture
def proxy(make_server, monkeypatch):
    """A proxy that everything in this environment is to go through; it answers whatever it is asked."""
    server = make_server()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    return server


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_loopback_never_goes_through_a_proxy(server, proxy, host):
    assert http.is_healthy(f"http://{host}:{server.server_port}/health") is (
        host != "127.0.0.2"
    )  # nobody listens there
    assert proxy.asked == []


def test_another_machine_is_asked_through_the_proxy_unless_direct(proxy):
    assert http.is_healthy("http://mlflow.invalid/health")
    assert [path for path, _ in proxy.asked] == ["http://mlflow.invalid/health"]
    assert not http.is_healthy("http://mlflow.invalid/health", direct=True)
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (302, False), (401, False), (404, False), (503, False)])
def test_only_200_is_healthy_and_no_redirect_is_followed(server, status, healthy):
    server.status = status
    assert http.get_status(f"{server.url}/health") == status
    assert http.is_healthy(f"{server.url}/health") is healthy
    assert {path for path, _ in server.asked} == {"/health"}


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "ftp://127.0.0.1/", "nonsense", "http://127.0.0.1:99999/"])
def test_silence_and_what_is_no_url_are_not_healthy(url):
    assert http.is_healthy(url.format(port=any_port())) is False


def test_user_and_password_of_the_url_are_sent_and_never_shown(server):
    url = server.url.replace("http://", "http://me:p%40ss@")
    http.require_healthy("MLflow", f"{url}/base/", "start it")
    ((path, headers),) = server.asked
    assert path == "/base/health"
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"me:p@ss"
    server.status = 503
    with pytest.raises(ResourceError, match=r"MLflow: http://\*\*\*@127.*says 503; expected 200.*; start it") as err:
        http.require_healthy("MLflow", url, "start it")
    assert "p%40ss" not in str(err.value) and "p@ss" not in str(err.value)


def test_headers_are_sent(server):
    assert http.is_healthy(f"{server.url}/health", headers={"X-Mark": "1"})
    assert server.asked[0][1]["X-Mark"] == "1"


def test_a_service_that_does_not_answer_is_named_with_its_next_step():
    with pytest.raises(ResourceError, match=r"Prefect: http://127.*does not answer \(.*refused.*Next: make up"):
        http.require_healthy("Prefect", f"http://127.0.0.1:{any_port()}/api", "make up")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "0.0.0.0"]
)
def test_loopback_names(host):
    assert http.is_loopback(host)


@pytest.mark.parametrize("host", ["", "example.org", "localhost.example.org", "10.0.0.1", "2001:db8::1"])
def test_names_of_other_machines(host):
    assert not http.is_loopback(host)


def test_an_ipv6_address_stands_in_brackets():
    assert http.base_url("::1", 80) == "http://[::1]:80"
    assert http.base_url("127.0.0.1", 80) == "http://127.0.0.1:80"


@pytest.mark.parametrize(
    ("environment", "value"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"no_proxy": "a.org", "NO_PROXY": "b.org, localhost"}, "a.org,b.org,localhost,127.0.0.1,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_children_are_told_to_reach_loopback_directly(environment, value):
    assert http.loopback_without_proxy(environment) == {"no_proxy": value, "NO_PROXY": value}
