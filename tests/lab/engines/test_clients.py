"""A model directory served by the real engine as it lies, among clients that stall, vanish and read slowly; and an
engine that is killed while it is asked."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from slipway.config.engine import EngineConfig
from slipway.config.store import StoreConfig
from slipway.config.target import TargetConfig
from slipway.engines.chat_client import ChatClient
from slipway.engines.directory import Machinery, service_for
from slipway.engines.endpoint import Endpoint
from slipway.engines.serving import serving
from slipway.errors import EngineError
from slipway.runners import local
from slipway.system.progress import Progress
from tests.support.pico import pico_model

PARAMS = EngineConfig(context=256, slots=2, threads=1)
ASKED = [{"role": "user", "content": "turn on the light in the kitchen"}]
TOKENS = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    pico_model(folder)
    return folder


@pytest.fixture
def endpoint(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The model's server; its bundle is made once."""
    cache, root = Path(StoreConfig().cache).expanduser(), tmp_path_factory.getbasetemp() / "served"
    machinery = Machinery(PARAMS, TargetConfig(), None, root, cache)
    with service_for(model, machinery, Progress()) as service, serving(service) as running:
        yield running


def connection(endpoint: Endpoint, sent: bytes) -> socket.socket:
    """A client of its own that has sent this much."""
    client = socket.create_connection((endpoint.host, endpoint.port), timeout=60)
    client.sendall(sent)
    return client


def request(endpoint: Endpoint) -> bytes:
    """A whole streaming request."""
    body = {"model": endpoint.model, "messages": ASKED, "max_tokens": TOKENS, "stream": True, "ignore_eos": True}
    data = json.dumps(body).encode()
    head = ["POST /v1/chat/completions HTTP/1.1", "Host: x", "Content-Type: application/json"]
    return "\r\n".join([*head, f"Content-Length: {len(data)}", "", ""]).encode() + data


def tokens_answered(endpoint: Endpoint) -> int:
    with ChatClient(endpoint.url, endpoint.model, 120) as client:
        return client.ask(ASKED, TOKENS, fixed_length=True).completion_tokens


def test_clients_that_vanish_stall_or_read_slowly_take_nothing_from_others(endpoint: Endpoint) -> None:
    pid, whole = local.pid(endpoint.job), request(endpoint)
    with ExitStack() as open_clients:
        stalled = connection(endpoint, whole[: len(whole) // 2])
        open_clients.enter_context(stalled)
        slow = open_clients.enter_context(connection(endpoint, whole))
        assert slow.recv(1)
        for _ in range(4 * PARAMS.slots):
            with connection(endpoint, whole) as vanishing:
                assert vanishing.recv(1)
        assert [tokens_answered(endpoint) for _ in range(2)] == [TOKENS, TOKENS]
        end = b""
        while not end.endswith(b"0\r\n\r\n"):  # which two reads may part between them
            part = slow.recv(64)
            assert part, "closed before its end"
            end = (end + part)[-64:]
            time.sleep(0.001)
    assert endpoint.is_healthy(60)
    assert local.pid(endpoint.job) == pid


def test_a_request_above_the_limit_is_rejected_with_a_reason(endpoint: Endpoint) -> None:
    long = [{"role": "user", "content": "light " * 2 * PARAMS.context * PARAMS.slots}]
    with (
        ChatClient(endpoint.url, endpoint.model, 120) as client,
        pytest.raises(EngineError, match=r"400.*(context|exceed)"),
    ):
        client.ask(long, 4)
    assert tokens_answered(endpoint) == TOKENS


def test_an_engine_killed_while_it_is_asked_is_named(endpoint: Endpoint) -> None:
    pid = local.pid(endpoint.job)
    assert pid is not None
    with connection(endpoint, request(endpoint)) as asking:
        assert asking.recv(1)
        psutil.Process(pid).kill()
        with pytest.raises(EngineError):
            tokens_answered(endpoint)
    with pytest.raises(EngineError, match=r"died \(signal 9\)"):
        endpoint.check_alive()
