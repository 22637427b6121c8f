"""A target on this machine: the agent in this process, blobs as copies of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.deployment.target_client import LocalClient, TargetClient
from slipway.errors import ConfigError


def test_blobs_are_copied_so_that_the_agent_may_cut_them(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "a").write_bytes(b"1234")
    notes: list[str] = []
    client: TargetClient = LocalClient(Agent(tmp_path / "root"))
    assert client.copy(tmp_path / "blobs", {"a": 4}, notes.append) == 4
    arrived = tmp_path / "root" / "incoming" / "a"
    arrived.write_bytes(b"")
    assert (tmp_path / "blobs" / "a").read_bytes() == b"1234"
    assert [path.name for path in arrived.parent.iterdir()] == ["a"]
    assert notes == ["copied 1 blobs, 0.00 GB"]


def test_verbs_and_ports_are_those_of_this_machine(tmp_path: Path) -> None:
    client = LocalClient(Agent(tmp_path / "root"))
    assert client.call("holder", {}) == {"lock": None}
    with pytest.raises(ConfigError, match="verb of the agent"):
        client.call("no such", {})
    with client.reach(8091) as port:
        assert port == 8091
