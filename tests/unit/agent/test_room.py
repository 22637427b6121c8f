"""Beside or held, by what is planned and what is free."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent import room as module
from slipway.agent.probe import memory
from slipway.agent.room import Room, choose_way, room
from slipway.agent.start_plan import parse_start

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
        ("40000\n20000\n", "GPU memory", 60000 * 1024 * 1024),
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
