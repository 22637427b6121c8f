"""The proxy's config file: which server gets requests, from data alone. HAProxy's own opinion is in the lab."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from slipway.agent.haproxy.config import (
    REFUSING,
    ProxySettings,
    Routing,
    Upstream,
    config_text,
    place,
    server_states,
    settings_digest,
)

SETTINGS = ProxySettings("127.0.0.1", 8090)
OLD, NEW = Upstream("0001-aaaaaaaa", "127.0.0.1", 8091), Upstream("0002-bbbbbbbb", "127.0.0.1", 8092)


def ready(routing: Routing, occupied: dict[str, tuple[str, int]] | None = None) -> dict[str, tuple[str, int]]:
    """server -> (host, port) of those that get requests."""
    states = server_states(routing, place(routing, occupied or {}))
    return {name: (state.host, state.port) for name, state in states.items() if state.ready}


def test_one_engine_serves() -> None:
    assert ready(Routing(OLD)) == dict.fromkeys(("engine/a", "held/a", "mirror/a"), OLD.address)
    assert ready(Routing()) == {}


def test_while_requests_wait_no_engine_gets_one() -> None:
    assert ready(Routing(OLD, NEW, 10, held=True)) == {"held/wait": REFUSING}


def test_a_mirror_gets_the_requests_and_the_champion_stands_behind_it() -> None:
    mirror = ("127.0.0.1", 9000)
    assert ready(Routing(OLD, mirror=mirror)).items() >= {"mirror/tee": mirror, "mirror/a": OLD.address}.items()
    assert "mirror/tee" not in ready(Routing(OLD, mirror=mirror, held=True))
    lines = config_text(SETTINGS, server_states(Routing(OLD, mirror=mirror), {"a": OLD})).splitlines()
    servers = [line.split() for line in lines[lines.index("backend mirror") :] if line.strip().startswith("server ")]
    assert {name: "backup" in words for _, name, *words in servers} == {"tee": False, "a": True, "b": True}
    assert "    use_backend mirror if { srv_is_up(mirror/tee) }" in lines


@pytest.mark.parametrize(("share", "weights"), [(1, (99, 1)), (50, (50, 50)), (99, (1, 99))])
def test_shares_are_weights(share: int, weights: tuple[int, int]) -> None:
    states = server_states(Routing(OLD, NEW, share), {"a": OLD, "b": NEW})
    assert (states["engine/a"].weight, states["engine/b"].weight) == weights
    assert states["engine/a"].ready
    assert states["engine/b"].ready


@pytest.mark.parametrize(("share", "serving"), [(0, "a"), (100, "b")])
def test_a_share_of_nothing_gets_nothing(share: int, serving: str) -> None:
    """HAProxy sends a server of weight 0 what is bound to it; one that is out gets nothing at all."""
    states = server_states(Routing(OLD, NEW, share), {"a": OLD, "b": NEW})
    assert [slot for slot in "ab" if states[f"engine/{slot}"].ready] == [serving]


def test_an_engine_keeps_its_slot_and_a_new_one_takes_the_other() -> None:
    occupied = {"a": REFUSING, "b": OLD.address}
    assert place(Routing(OLD), occupied) == {"b": OLD}
    assert place(Routing(OLD, NEW), occupied) == {"b": OLD, "a": NEW}
    assert place(Routing(NEW), occupied, in_use=["b"]) == {"a": NEW}
    assert place(Routing(NEW), occupied, in_use=["a"]) == {"b": NEW}


def test_two_engines_at_one_address_have_two_slots() -> None:
    twin = replace(NEW, port=OLD.port)
    assert place(Routing(OLD, twin), {"a": OLD.address, "b": OLD.address}) == {"a": OLD, "b": twin}


def test_the_file_names_release_address_and_state_of_each_server() -> None:
    text = config_text(SETTINGS, server_states(Routing(OLD), {"a": OLD}))
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("server ")]
    assert lines == [
        "server a 127.0.0.1:8091 weight 100  # 0001-aaaaaaaa",
        "server b 127.0.0.1:1 weight 100 disabled",
        "server wait 127.0.0.1:1 weight 1 disabled",
        "server a 127.0.0.1:8091 weight 100  # 0001-aaaaaaaa",
        "server b 127.0.0.1:1 weight 100 disabled",
        "server tee 127.0.0.1:1 weight 1 check inter 500ms fall 1 rise 2 observe layer4 error-limit 1 "
        "on-error mark-down disabled",
        "server a 127.0.0.1:8091 weight 100 backup  # 0001-aaaaaaaa",
        "server b 127.0.0.1:1 weight 100 backup disabled",
    ]


def test_ipv6_addresses_are_in_brackets() -> None:
    text = config_text(replace(SETTINGS, host="::1"), server_states(Routing(replace(OLD, host="::1")), {"a": OLD}))
    assert "bind [::1]:8090\n" in text


def test_a_path_with_blanks_and_quotes_stays_one_word() -> None:
    text = config_text(replace(SETTINGS, tls_file="/tls/it's mine.pem"), {})
    assert " ssl crt '/tls/it'\\''s mine.pem' " in text


def test_the_digest_changes_with_every_setting_and_with_no_engine() -> None:
    """What a reload must bring; `command` starts a process, it is not in the file."""
    keyed = replace(SETTINGS, engine_keys=True)
    other = {
        "host": "127.0.0.2",
        "port": 1,
        "key_digests": ("ab",),
        "tls_file": "/x.pem",
        "tls_digest": "ab",
        "drain_limit_s": 1,
        "hold_limit_s": 1,
        "retry_after_s": 1,
        "answer_limit_s": 1,
        "max_connections": 10,
        "engine_keys": False,
        "engine_ca": "/ca.pem",
    }
    assert set(other) == {field.name for field in fields(ProxySettings)} - {"command"}
    digests = [settings_digest(keyed), *(settings_digest(replace(keyed, **{k: v})) for k, v in other.items())]
    assert len(set(digests)) == len(digests)
    for routing in (Routing(OLD), Routing(NEW, OLD, 5)):
        text = config_text(SETTINGS, server_states(routing, place(routing, {})))
        assert f"description slipway-{settings_digest(SETTINGS)}\n" in text
