"""The sections that send each engine its key, as text; HAProxy's own behaviour is in the lab."""

from __future__ import annotations

from dataclasses import replace

from slipway.agent.haproxy.config import DOOR, ProxySettings, Routing, Upstream, config_text, place, server_states
from slipway.agent.haproxy.keyed_slots import keys_text

SETTINGS = ProxySettings("127.0.0.1", 8090, engine_keys=True)
OLD = Upstream("0001-aaaaaaaa", "10.0.0.1", 20001, "a" * 64)
NEW = Upstream("0002-bbbbbbbb", "10.0.0.2", 20002, "b" * 64)


def test_backends_lead_into_the_slots_which_know_the_engines() -> None:
    states = server_states(Routing(OLD, NEW, 10), {"a": OLD, "b": NEW}, engine_keys=True)
    assert list(states)[:2] == ["slot_a/engine", "slot_b/engine"]  # told before anything leads there
    assert (states["slot_a/engine"].host, states["slot_a/engine"].key) == (OLD.host, OLD.key)
    outer = [state for name, state in states.items() if name.endswith(("/a", "/b"))]
    assert {(state.host, state.port) for state in outer} == {DOOR}
    assert [states[f"engine/{slot}"].weight for slot in "ab"] == [90, 10]


def test_an_engine_of_a_hold_is_still_known_to_its_slot() -> None:
    """What it answers goes on; nothing new leads there."""
    states = server_states(Routing(OLD, held=True), {"a": OLD}, engine_keys=True)
    assert states["slot_a/engine"].ready
    assert not states["engine/a"].ready
    assert not states["slot_b/engine"].ready


def test_no_key_is_in_the_file_or_in_what_an_error_shows() -> None:
    states = server_states(Routing(OLD), place(Routing(OLD), {}), engine_keys=True)
    text = config_text(SETTINGS, states)
    assert OLD.key not in text + repr(states) + repr(OLD)
    lines = [line.strip() for line in text.splitlines()]
    start = lines.index("listen slot_a")
    assert lines[start + 1] == "bind unix@slot_a.sock mode 600"
    assert "server engine 10.0.0.1:20001 weight 100  # 0001-aaaaaaaa" in lines[start:]
    assert lines.count("server a unix@slot_a.sock weight 100  # 0001-aaaaaaaa") == 2  # engine, held; mirror's a backup
    assert "listen slot_a" not in config_text(replace(SETTINGS, engine_keys=False), server_states(Routing(OLD), {}))


def test_a_request_is_two_connections_and_clients_have_half_of_them() -> None:
    lines = [line.strip() for line in config_text(replace(SETTINGS, max_connections=10), {}).splitlines()]
    assert [line for line in lines if line.startswith("maxconn")] == ["maxconn 20", "maxconn 10"]


def test_the_map_has_a_line_for_each_slot() -> None:
    assert keys_text({"a": OLD.key, "b": ""}) == f"a {OLD.key}\nb none\n"
