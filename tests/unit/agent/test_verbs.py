"""The verbs by name."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

from slipway import agent as room
from slipway.agent.agent import Agent
from slipway.agent.verbs import VERBS


def test_a_target_that_nobody_changes_has_no_holder(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "none")
    assert agent.call("holder", {}) == {"lock": None}
    agent.lock.acquire("ann", "promotion", 0)
    assert Agent(tmp_path / "none").call("holder", {})["lock"]["owner"] == "ann"
    agent.close()


def test_the_room_is_python_3_10_as_targets_have_it() -> None:
    """The grammar; what the standard library gained since is kept out by hand."""
    files = list(Path(room.__path__[0]).rglob("*.py"))
    assert len(files) > 5
    assert VERBS
    for file in files:
        ast.parse(file.read_text(), feature_version=(3, 10))


def test_verbs_that_are_loaded_by_their_first_call_exist() -> None:
    later = [verb.__qualname__.rsplit(".", 1) for verb in VERBS.values() if verb.__module__ == "slipway.agent.verbs"]
    names = {name for _, name in (one for one in later if len(one) == 2)}
    assert names == set(VERBS) - {"document", "hold", "holder", "holds", "status", "unhold", "versions"}
    for module, name in (one for one in later if len(one) == 2):
        assert callable(getattr(import_module(f"slipway.agent.{module}"), name))
