"""A docker engine that is there, goes away, comes back, or is not what its address says; tests/lab has the real one."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from docker.errors import APIError, NotFound

from slipway.containers.docker_client import DockerClient, UnreachableError, client_at
from slipway.errors import ConfigError, ResourceError
from slipway.system.ports import any_port


class Engine(ThreadingHTTPServer):
    """The few answers of Docker's API that a connection and one question need."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.asked: list[str] = []
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        missing = "missing" in self.path
        body = {"message": "no such container"} if missing else {"ApiVersion": "1.44", "Id": "abc", "Name": "here"}
        text = json.dumps(body).encode()
        self.send_response(404 if missing else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def engine():
    engine = Engine(any_port())
    yield engine
    engine.stop()


def inspect(client):
    return client.api.inspect_container("abc")["Id"]


def test_a_question_is_answered_and_the_version_is_asked_for_once(engine):
    client = client_at(f"tcp://127.0.0.1:{engine.server_port}")
    assert client.ask(inspect) == "abc"
    assert client.ask(inspect) == "abc"
    assert [path.endswith("/version") for path in engine.asked].count(True) == 1
    client.drop()
    assert client.ask(inspect) == "abc", "a dropped connection is made again"
    assert [path.endswith("/version") for path in engine.asked].count(True) == 1
    client.drop()


def test_an_answer_that_refuses_is_no_silence(engine):
    client = client_at(f"tcp://127.0.0.1:{engine.server_port}")
    with pytest.raises(NotFound):
        client.ask_until_answered(lambda c: c.api.inspect_container("missing"), 60)
    with pytest.raises(APIError):
        client.ask(lambda c: c.api.inspect_container("missing"))
    client.drop()


def test_an_engine_that_comes_back_is_asked_again():
    port = any_port()
    client = client_at(f"tcp://127.0.0.1:{port}")
    with pytest.raises(UnreachableError):
        client.ask(inspect)
    started: list[Engine] = []
    starter = threading.Timer(0.5, lambda: started.append(Engine(port)))
    starter.start()
    try:
        assert client.ask_until_answered(inspect, 60) == "abc"
    finally:
        starter.join()
        client.drop()
        started[0].stop()


def test_an_engine_that_stays_away_is_one_error_with_the_address_to_try(tmp_path):
    host = f"unix://{tmp_path}/none.sock"
    with pytest.raises(
        ResourceError, match=rf"docker engine {host}: no answer for 0 s: .*DOCKER_HOST={host} docker info"
    ):
        client_at(host).ask_until_answered(inspect, 0)


@pytest.mark.parametrize(
    ("host", "remote"),
    [("unix:///x.sock", False), ("http+unix:///x.sock", False), ("tcp://h:2375", True), ("ssh://u@h", True)],
)
def test_paths_mean_something_else_on_another_machine(host, remote):
    assert DockerClient(host).remote is remote


def test_the_address_comes_from_the_config_then_the_environment_then_the_machine(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:1")
    assert client_at("ssh://u@h").host == "ssh://u@h"
    assert client_at(None).host == "tcp://elsewhere:1"
    monkeypatch.delenv("DOCKER_HOST")
    assert client_at(None).host.endswith("/var/run/docker.sock")


def test_an_address_that_is_none_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"docker host: spark; expected unix://, tcp:// or ssh://"):
        client_at("spark")


def test_an_ssh_port_that_nobody_listens_on_is_no_answer():
    with pytest.raises(UnreachableError, match="refused"):
        client_at(f"ssh://u@127.0.0.1:{any_port()}").ask(inspect)
