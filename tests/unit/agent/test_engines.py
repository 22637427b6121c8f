"""Which engine serves a release, whatever its record says."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from slipway.agent import ports
from slipway.agent.agent import Agent
from slipway.agent.engines import BEGUN, ENDPOINT, MOST_PORTS, Endpoint, Engines
from slipway.agent.settings import Settings, read_settings
from slipway.errors import ConfigError, EngineError, ResourceError, StateError
from slipway.store.store import Store
from tests.support.agent import engine, promote
from tests.unit.agent.conftest import running


def test_start_know_again_stop(agent: Agent, store: Store) -> None:
    release, engines = promote(agent, engine(store)), Engines(agent.paths)
    endpoint = engines.endpoint(release["name"])
    assert endpoint
    assert running(agent.paths.root) == [endpoint.pid]
    assert engines.healthy(release["name"])
    assert engines.running() == [release["name"]]
    assert engines.stop(release["name"], 10) == [{"release": release["name"], "pid": endpoint.pid, "url": endpoint.url}]
    assert engines.endpoint(release["name"]) is None
    assert not engines.healthy(release["name"])
    assert engines.stop(release["name"], 10) == []


def test_the_record_is_what_clients_follow_and_holds_no_wall_clock(agent: Agent, store: Store) -> None:
    release = promote(agent, engine(store))
    record = json.loads((agent.paths.pointer / ENDPOINT).read_text())
    assert set(record) == {"url", "host", "port", "model", "log", "health", "pid", "started", "boot"}
    assert record["url"] == f"http://{record['host']}:{record['port']}/v1"
    assert record["log"] == str(Path(release["path"]) / "engine.log")


def test_a_process_whose_pid_was_never_written_down_is_ended(agent: Agent, store: Store) -> None:
    name = promote(agent, engine(store))["name"]
    file = agent.paths.release(name) / ENDPOINT
    engines = Engines(agent.paths)
    for begun in ({"url": None, "port": json.loads(file.read_text())["port"]}, BEGUN):
        file.write_text(json.dumps(begun))
        assert engines.endpoint(name) is None
    assert len(engines.stop(name, 10)) == 1
    assert running(agent.paths.root) == []


def test_a_missing_record_hides_no_process(agent: Agent, store: Store) -> None:
    name = promote(agent, engine(store))["name"]
    (agent.paths.release(name) / ENDPOINT).unlink()
    assert [row["release"] for row in Engines(agent.paths).stop(name, 10)] == [name]
    assert running(agent.paths.root) == []


def test_a_stranger_with_the_recorded_pid_is_left_alone(agent: Agent, store: Store) -> None:
    """After a reboot the pid may be anyone's; here it is made ours."""
    name = promote(agent, engine(store))["name"]
    engines = Engines(agent.paths)
    engines.stop(name, 10)
    record = {"host": "127.0.0.1", "port": 1, "model": "m", "log": "", "pid": os.getpid()}
    for more in ({"started": 1, "boot": "b"}, {"create_time": 1.0}):
        (agent.paths.release(name) / ENDPOINT).write_text(json.dumps({**record, **more}))
        assert engines.endpoint(name) is None
        assert engines.stop(name, 0) == []


def test_report_9_an_engine_that_dies_at_once_is_named_long_before_its_limit(agent: Agent, store: Store) -> None:
    begun = time.monotonic()
    with pytest.raises(EngineError, match="unknown tensor type"):
        promote(agent, engine(store, die=True), settings={**_settings(agent), "start_timeout_s": 600})
    assert time.monotonic() - begun < 600
    agent.close()
    assert running(agent.paths.root) == []


def test_report_9_an_engine_that_loads_for_long_is_waited_for(agent: Agent, store: Store) -> None:
    """Its port answers 503 until it is loaded; nobody starts it again meanwhile."""
    release = promote(agent, engine(store, loads_s=1.5), settings={**_settings(agent), "start_timeout_s": None})
    (pid,) = running(agent.paths.root)
    assert json.loads((Path(release["path"]) / ENDPOINT).read_text())["pid"] == pid


def test_a_container_without_a_runtime_is_refused_by_name(agent: Agent, store: Store) -> None:
    name = promote(agent, engine(store))["name"]
    file = agent.paths.release(name) / "start.json"
    plan = json.loads(file.read_text())
    plan["plan"]["image"] = "registry/vllm@sha256:1"
    file.write_text(json.dumps(plan))
    with pytest.raises(ConfigError, match=r"registry/vllm.*deploy\.runtime"):
        Engines(agent.paths).start(name, read_settings(agent.paths))


def test_a_busy_port_range_is_named(agent: Agent, store: Store) -> None:
    name = promote(agent, engine(store))["name"]
    endpoint = Engines(agent.paths).endpoint(name)
    assert endpoint
    with pytest.raises(ResourceError, match=f"{endpoint.port}..{endpoint.port} on 127.0.0.1 all in use"):
        Engines(agent.paths).start(name, Settings(ports=(endpoint.port, endpoint.port)))


def test_a_port_that_is_taken_between_our_look_and_the_engines_bind_is_left_to_its_taker(
    agent: Agent, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = promote(agent, engine(store))["name"]
    engines = Engines(agent.paths)
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))  # as an outgoing connection holds its port: nobody listens there
        taken = taker.getsockname()[1]
        look = ports.is_free
        monkeypatch.setattr(ports, "is_free", lambda host, port: look(host, port) or (port == taken and first()))
        seen: list[int] = []

        def first() -> bool:
            seen.append(taken)
            return len(seen) == 1

        endpoint = engines.start(name, Settings(ports=(taken, min(taken + 20, 65535))))
        assert seen and endpoint.port > taken and engines.healthy(name)
        seen.clear()
        with pytest.raises(ResourceError, match=f"port {taken} on 127.0.0.1: in use"):
            engines.start(name, Settings(ports=(taken, taken)))


def test_an_engine_that_dies_of_itself_is_not_tried_on_every_port(
    agent: Agent, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes the port of each attempt that died: what the engine said is what is told, soon."""
    looks: Counter[int] = Counter()
    look = ports.is_free

    def free_once(host: str, port: int) -> bool:
        looks[port] += 1
        return looks[port] == 1 and look(host, port)

    monkeypatch.setattr(ports, "is_free", free_once)
    with pytest.raises(EngineError, match=rf"(?s)died {MOST_PORTS} times.*in use by.*unknown tensor type"):
        promote(agent, engine(store, die=True), settings={**_settings(agent), "ports": [20000, 31999]})
    agent.close()
    assert running(agent.paths.root) == []


@pytest.mark.parametrize(
    "change", [{"port": "8"}, {"pid": None}, {"started": "x"}, {"container": "c", "runtime": "rm"}]
)
def test_a_record_that_does_not_fit_is_named(agent: Agent, store: Store, change: dict[str, object]) -> None:
    name = promote(agent, engine(store))["name"]
    file = agent.paths.release(name) / ENDPOINT
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(StateError, match=f"endpoint of release {name}.*{next(iter(change))}|.*runtime"):
        Engines(agent.paths).endpoint(name)


def test_an_address_of_ipv6_is_in_brackets() -> None:
    assert Endpoint("::1", 80, "m", "log").url == "http://[::1]:80/v1"


def test_a_killed_engine_does_not_run(agent: Agent, store: Store) -> None:
    name = promote(agent, engine(store))["name"]
    (pid,) = running(agent.paths.root)
    os.kill(pid, signal.SIGKILL)
    while running(agent.paths.root):
        time.sleep(0.02)
    assert Engines(agent.paths).endpoint(name) is None


def _settings(agent: Agent) -> dict[str, object]:
    return dict(json.loads((agent.paths.root / "target.json").read_text()))
