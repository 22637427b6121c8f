"""The real llama-server under load: a soak at the planned concurrency, and what it does above its limits.

A small sample here; `make soak` asks for thousands (SLIPWAY_SOAK_REQUESTS).
"""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.config.store import StoreConfig
from slipway.config.target import TargetConfig
from slipway.engines.endpoint import Endpoint
from slipway.engines.memory_samples import MemorySamples
from slipway.engines.serving import service_of, serving
from slipway.evaluation.bench import own_prompts
from slipway.evaluation.load_client import LoadClient, Request, Window, measure_window
from slipway.evaluation.speed import check_counts, request_stream
from slipway.evaluation.stream_timings import AnswerFailedError
from slipway.pipeline.workspace import Workspace
from slipway.stages.engine import EngineParams, engine
from slipway.store.artifacts import Checkpoint, Engine
from slipway.store.store import Store, load
from slipway.system.progress import Progress
from tests.support.pico import pico_model

SLOTS = 2
REQUESTS = int(os.environ.get("SLIPWAY_SOAK_REQUESTS", "40"))


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    store, work = Store(tmp_path_factory.mktemp("store")), tmp_path_factory.mktemp("work")
    with store.create(Checkpoint, "base", {}) as out:
        pico_model(out, seed=3)
    checkpoint = load(Checkpoint, store.dir(Checkpoint.kind, "base"))
    with store.create(Engine, "e", {}) as out:
        cache = Path(StoreConfig().cache).expanduser()
        engine(checkpoint, EngineParams(context=1024, slots=SLOTS, threads=1), Workspace(out, work, cache, Progress()))
    made = load(Engine, store.dir(Engine.kind, "e"))
    with serving(service_of(made.path, TargetConfig(), work / "server")) as server:
        yield server


def window(endpoint: Endpoint, callers: int, requests: int) -> Window:
    async def measured() -> Window:
        async with LoadClient(endpoint.url, endpoint.model, 120) as client:
            await client.negotiate(Request(own_prompts()[0], 4))
            return await measure_window(client, request_stream(own_prompts(), (8, 16)), callers, requests)

    return asyncio.run(measured())


def test_a_soak_at_the_planned_concurrency_fails_nothing_and_grows_nothing(endpoint: Endpoint) -> None:
    window(endpoint, SLOTS, SLOTS * 4)
    with MemorySamples(endpoint, every_s=0.1) as memory:
        result = window(endpoint, SLOTS, REQUESTS)
    assert not result.failures
    assert len(result.answers) == REQUESTS
    check_counts(result.answers)
    held = [size for _, size in memory.pairs]
    third = len(held) // 3
    assert third >= 1
    first, last = statistics.median(held[:third]), statistics.median(held[-third:])
    assert last <= 1.05 * first + 8e6, f"{first:.0f} bytes at first, {last:.0f} at last"


def test_more_callers_than_slots_wait_and_nobody_fails(endpoint: Endpoint) -> None:
    """llama-server keeps what is above its slots in a queue: slower, but whole."""
    result = window(endpoint, SLOTS * 4, 16)
    assert not result.failures
    assert all((answer.usage or 0) == answer.asked for answer in result.answers)
    assert endpoint.is_healthy()


def test_a_request_above_the_context_is_refused_with_a_reason_and_the_server_goes_on(endpoint: Endpoint) -> None:
    async def both() -> int:
        async with LoadClient(endpoint.url, endpoint.model, 120) as client:
            with pytest.raises(AnswerFailedError, match=r"HTTP 400.*context"):
                await client.ask(Request([{"role": "user", "content": "lamp " * 5000}], 8))
            return (await client.ask(Request([{"role": "user", "content": "lamp"}], 8))).usage or 0

    assert asyncio.run(both()) == 8
    assert endpoint.is_healthy()


def test_the_servers_slots_are_free_again_after_clients_that_vanish(endpoint: Endpoint) -> None:
    """The window's last uncounted requests are dropped in the middle of their answers, four times in a row."""
    for _ in range(4):
        assert not window(endpoint, SLOTS, SLOTS).failures
    asked = window(endpoint, SLOTS, 8)
    assert len(asked.answers) == 8
