"""Releases of bundles on a target: linked, checked, sealed, gone with the last that names their layers."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.agent.bundle.release import collect, stage, verify_release
from slipway.agent.bundle.signature import Trust, write_trust
from slipway.agent.bundle.tree import make_seal, read_seal
from slipway.errors import BundleError, CheckpointError, StateError
from slipway.store.store import Store
from tests.support.bundles import FILES, NAME, key_pair, sent, staged
from tests.support.target import make_engine


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "target")


def test_trust_that_was_withdrawn_stops_the_next_start(agent: Agent, tmp_path: Path) -> None:
    key, _ = key_pair(tmp_path)
    folder = staged(agent, sent(agent, key))
    _, other = key_pair(tmp_path / "other")
    write_trust(agent.paths.root, Trust("enforce", (other,)))
    with pytest.raises(BundleError, match="signed by somebody else"):
        verify_release(agent.paths.root, folder, full=False)


def test_a_damaged_layer_is_found_when_a_later_release_takes_it(agent: Agent, tmp_path: Path) -> None:
    first = staged(agent, sent(agent))
    with (first / "engine/model.gguf").open("r+b") as file:
        file.write(b"X")  # through the hard link
    request = sent(agent, files={**FILES, "card.md": b"# 2\n"})
    with pytest.raises(BundleError, match=r"model\.gguf: other bytes"):
        staged(agent, request, "0002-0123abcd")


def test_a_release_of_this_machines_store_is_sealed_too(agent: Agent, tmp_path: Path) -> None:
    engine = make_engine(Store(tmp_path / "store"), {"answer": "x"})
    folder = agent.paths.release(NAME)
    shutil.copytree(engine.path, folder / "engine")
    (folder / "release.json").write_text(json.dumps({"digests": {"engine": engine.digest}}))
    assert verify_release(agent.paths.root, folder, full=False).startswith("not a bundle")
    assert read_seal(folder / "seal.json") == make_seal(folder, ["release.json", "seal.json"])
    (folder / "engine.log").write_text("the target's own")
    verify_release(agent.paths.root, folder, full=False)
    (folder / "engine/extra.py").write_text("")
    with pytest.raises(BundleError, match=r"extra\.py: added"):
        verify_release(agent.paths.root, folder, full=False)
    (folder / "engine/extra.py").unlink()
    (folder / "engine/serve.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"serve\.json"):
        verify_release(agent.paths.root, folder, full=False)
    assert not (folder / "seal.json").exists()


def test_a_release_put_back_from_a_backup_is_read_and_sealed_anew(agent: Agent, tmp_path: Path) -> None:
    folder = staged(agent, sent(agent))
    before = read_seal(folder / "seal.json")
    shutil.move(folder, tmp_path / "backup")
    shutil.copytree(tmp_path / "backup", folder)
    verify_release(agent.paths.root, folder, full=False)
    after = read_seal(folder / "seal.json")
    assert before is not None
    assert after is not None
    assert before.keys() == after.keys()
    assert before != after, "other inodes"


def test_what_was_received_and_not_staged_yet_stays_until_gc(agent: Agent, tmp_path: Path) -> None:
    request = sent(agent)
    agent.call("receive", request)
    (agent.paths.incoming / ("e" * 64)).write_bytes(b"half of something")
    assert collect(agent.paths.root, agent.paths.releases) == []
    folder = agent.paths.release(NAME)
    folder.mkdir(parents=True)
    stage(agent.paths.root, request, folder)
    assert list((agent.paths.root / "received").iterdir()) == []
    other = sent(agent, files={**FILES, "card.md": b"# 2\n"})
    agent.call("receive", other)
    gone = collect(agent.paths.root, agent.paths.releases, unstaged=True)
    assert len(gone) == 3, "manifest, config and the card's layer"
    assert list(agent.paths.incoming.iterdir()) == []
    verify_release(agent.paths.root, folder, full=True)


def test_layers_go_with_the_last_release_that_names_them(agent: Agent, tmp_path: Path) -> None:
    key, _ = key_pair(tmp_path)
    first = staged(agent, sent(agent, key))
    second = staged(agent, sent(agent, key, {**FILES, "card.md": b"# 2\n"}), "0002-0123abcd")
    assert collect(agent.paths.root, agent.paths.releases) == []
    (first / "bundle.json").unlink()
    gone = collect(agent.paths.root, agent.paths.releases)
    assert len(gone) == 5, "manifest, config, the card's layer; the signature's manifest and payload"
    verify_release(agent.paths.root, second, full=True)
    (second / "bundle.json").write_text("{")
    with pytest.raises(StateError):
        collect(agent.paths.root, agent.paths.releases)


def test_a_record_of_something_else(agent: Agent, tmp_path: Path) -> None:
    folder = staged(agent, sent(agent))
    for text in ("[]", "{}", json.dumps({"manifest": "x"}), json.dumps({"manifest": hashlib.sha256(b"").hexdigest()})):
        (folder / "bundle.json").write_text(text)
        with pytest.raises((StateError, BundleError)):
            verify_release(agent.paths.root, folder, full=True)


@pytest.mark.parametrize("name", ["start.json", "seal.json", "release.json", "model.sig"])
def test_a_bundle_says_nothing_in_the_targets_name(agent: Agent, tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="the target's own name"):
        staged(agent, sent(agent, files={**FILES, name: b"{}"}))
