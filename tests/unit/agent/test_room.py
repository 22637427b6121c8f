"""Beside or held, by what is planned and what is free."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent import room as module
from slipway.agent.haproxy.config import ProxySettings
from slipway.agent.probe import memory
from slipway.agent.room import Room, choose_way, hold_warning, room
from slipway.agent.settings import Settings
from slipway.agent.start_plan import parse_start
from slipway.errors import ResourceError

GB = 10**9


def plan(**parts: float):
    return parse_start({"plan": {"argv": ["serve"], "memory": parts}}, "start")


@pytest.mark.parametrize(
    ("planned", "free", "way", "why"),
    [
        ({"weights": 30 * GB, "kv_cache": 10 * GB}, 60 * GB, "beside", "40.0 GB planned, 52.0 GB of memory free"),
        ({"weights": 43 * GB, "kv_cache": 10 * GB}, 60 * GB, "held", "53.0 GB planned, 52.0 GB"),
        ({}, 60 * GB, "beside", "no memory is planned"),
        ({"weights": 30 * GB}, -1, "beside", "not known"),
    ],
)
def test_a_second_engine_starts_beside_where_both_fit(planned, free, way, why) -> None:
    chosen, words = choose_way(plan(**planned), Room(free, "memory"), 8)
    assert chosen == way and words.startswith(way) and why in words


@pytest.mark.parametrize(
    ("printed", "kind", "free"),
    [
        ("40000\n20000\n", "GPU memory", 20000 * 1024 * 1024),  # an engine over both needs its part on each
        ("[N/A]\n", "memory", None),  # a GPU that shares the memory of the CPU
        ("", "memory", None),
    ],
)
def test_gpus_are_asked_where_they_have_memory_of_their_own(tmp_path: Path, monkeypatch, printed, kind, free) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{printed}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(module, "QUERY", [str(program), *module.QUERY[1:]])
    now = room()
    assert now.kind == kind
    assert now.free == free if free else 0 < now.free <= memory()["total"]


def test_without_a_driver_it_is_the_machines_memory(monkeypatch) -> None:
    monkeypatch.setattr(module, "QUERY", ["/no/such/program"])
    assert room().kind == "memory"


@pytest.mark.parametrize(("measured_s", "limit_s"), [(30, None), (30, 400.0), (500, None)])
def test_a_held_swap_waits_for_a_start_or_says_that_it_may_not(
    measured_s: float, limit_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held for 300 s: a start of 30 s fits (its limit is 120), one that may take 400 is noted, one of 500 refused."""
    monkeypatch.setattr(module, "proxy_settings", lambda _: ProxySettings(host="127.0.0.1", port=1, hold_limit_s=300))
    start = parse_start({"plan": {"argv": ["serve"]}, "measured_start_s": measured_s}, "start")
    settings = Settings(start_timeout_s=limit_s)
    if measured_s > 300:
        with pytest.raises(ResourceError, match=r"held swap to 0002.*500 s.*hold_limit_s=300.*nothing was stopped"):
            hold_warning("0002", start, settings)
        return
    warning = hold_warning("0002", start, settings)
    assert (
        warning is None if limit_s is None else "up to 400 s to start and requests wait at most 300 s" in str(warning)
    )


def test_without_a_proxy_nothing_is_held() -> None:
    start = parse_start({"plan": {"argv": ["serve"]}, "measured_start_s": 5000}, "start")
    assert hold_warning("0002", start, Settings(proxy={"kind": "none"})) is None
