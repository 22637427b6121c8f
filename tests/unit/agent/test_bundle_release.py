"""Bundles through the agent's verbs: trusted before they are unpacked, checked before a start, gone at last."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.agent import Agent
from slipway.agent.bundle_manifest import ARCHITECTURES
from slipway.agent.bundle_release import collect, seal_release, stage, verify_release
from slipway.agent.signature import Trust, payload_of, write_trust
from slipway.errors import BundleError, SlipwayError, StateError
from tests.support.bundles import FILES, attached, incoming, key_pair, signed_with

HERE = ARCHITECTURES.get(platform.machine(), platform.machine())
NAME = "0001-0123abcd"


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "target")


def sent(agent: Agent, tmp_path: Path, key: Path | None = None, files: dict[str, bytes] = FILES) -> dict[str, Any]:
    """A bundle in `incoming/`, signed where a key is given; what `receive` is asked."""
    bundle = incoming(agent.paths.incoming, files, HERE)
    request: dict[str, Any] = {"manifest": bundle.digest}
    if key:
        payload = payload_of(bundle.digest)
        signature = attached(agent.paths.incoming, payload, signed_with(key, payload))
        request |= {"signature": signature}
    return request


def staged(agent: Agent, request: dict[str, Any], name: str = NAME) -> Path:
    agent.call("receive", request)
    folder = agent.paths.release(name)
    folder.mkdir(parents=True)
    stage(agent.paths.root, request, folder)
    verify_release(agent.paths.root, folder, full=True)
    return folder


def test_a_signed_bundle_becomes_a_sealed_release(agent: Agent, tmp_path: Path) -> None:
    key, public = key_pair(tmp_path)
    write_trust(agent.paths.root, Trust("enforce", (public,)))
    request, notes = sent(agent, tmp_path, key), list[str]()
    digests = [file.name for file in agent.paths.incoming.iterdir()]
    assert agent.call("missing", {"digests": digests}) == {"missing": digests}
    answer = agent.call("receive", request, notes.append)
    assert answer["signed"].startswith("signed by key")
    assert notes == [answer["signed"]]
    assert agent.call("missing", {"digests": digests}) == {"missing": []}
    folder = staged(agent, request)
    (folder / "endpoint.json").write_text("{}")
    for full in (False, True):
        result = agent.call("verify", {"release": NAME, "full": full})
        assert (result["files"], result["signed"]) == (len(FILES), answer["signed"])
    (folder / "card.md").write_text("another text: a copy, not the layer's file")
    (folder / "engine/model.gguf").chmod(0o600)
    for full, value in ((False, "size|mode|mtime"), (True, "bytes|mode")):
        with pytest.raises(BundleError, match=value):
            agent.call("verify", {"release": NAME, "full": full})


def test_who_is_not_trusted_is_refused_before_anything_is_unpacked(agent: Agent, tmp_path: Path) -> None:
    key, _ = key_pair(tmp_path)
    _, public = key_pair(tmp_path / "other")
    write_trust(agent.paths.root, Trust("enforce", (public,)))
    for signing in (None, key):
        with pytest.raises(BundleError, match=r"not signed|signed by somebody else"):
            agent.call("receive", sent(agent, tmp_path, signing))
    assert not agent.paths.layers.exists()
    write_trust(agent.paths.root, Trust("warn", (public,)))
    assert agent.call("receive", sent(agent, tmp_path, key))["signed"].startswith("warning: signed by somebody else")


def test_trust_that_was_withdrawn_stops_the_next_start(agent: Agent, tmp_path: Path) -> None:
    key, _ = key_pair(tmp_path)
    folder = staged(agent, sent(agent, tmp_path, key))
    _, other = key_pair(tmp_path / "other")
    write_trust(agent.paths.root, Trust("enforce", (other,)))
    with pytest.raises(BundleError, match="signed by somebody else"):
        verify_release(agent.paths.root, folder, full=False)


def test_a_damaged_layer_is_found_when_a_later_release_takes_it(agent: Agent, tmp_path: Path) -> None:
    first = staged(agent, sent(agent, tmp_path))
    with (first / "engine/model.gguf").open("r+b") as file:
        file.write(b"X")  # through the hard link
    request = sent(agent, tmp_path, files={**FILES, "card.md": b"# 2\n"})
    with pytest.raises(BundleError, match=r"model\.gguf: other bytes"):
        staged(agent, request, "0002-0123abcd")


def test_a_release_of_this_machines_store_is_sealed_too(agent: Agent, tmp_path: Path) -> None:
    folder = agent.paths.release(NAME)
    (folder / "engine").mkdir(parents=True)
    (folder / "engine/serve.json").write_text("{}")
    (folder / "engine.log").write_text("")
    seal_release(folder)
    assert verify_release(agent.paths.root, folder, full=False).startswith("no bundle")
    (folder / "engine.log").write_text("more")
    verify_release(agent.paths.root, folder, full=False)
    (folder / "engine/serve.json").write_text("[]")
    with pytest.raises(BundleError, match=r"serve\.json"):
        verify_release(agent.paths.root, folder, full=False)


def test_layers_go_with_the_last_release_that_names_them(agent: Agent, tmp_path: Path) -> None:
    key, _ = key_pair(tmp_path)
    first = staged(agent, sent(agent, tmp_path, key))
    second = staged(agent, sent(agent, tmp_path, key, {**FILES, "card.md": b"# 2\n"}), "0002-0123abcd")
    assert collect(agent.paths.root, agent.paths.releases) == []
    (first / "bundle.json").unlink()
    gone = collect(agent.paths.root, agent.paths.releases)
    assert len(gone) == 5, "manifest, config, the card's layer; the signature's manifest and payload"
    verify_release(agent.paths.root, second, full=True)
    (second / "bundle.json").write_text("{")
    with pytest.raises(StateError):
        collect(agent.paths.root, agent.paths.releases)


@pytest.mark.parametrize(
    ("verb", "document"),
    [
        ("missing", {"digests": ["../x"]}),
        ("missing", {"digests": 7}),
        ("missing", {}),
        ("receive", {}),
        ("receive", {"manifest": "../../etc/passwd"}),
        ("receive", {"manifest": "0" * 64}),
        ("receive", {"manifest": "0" * 64, "signature": "../x"}),
        ("verify", {"release": "../x"}),
        ("verify", {"release": NAME}),
    ],
)
def test_what_the_verbs_refuse(agent: Agent, verb: str, document: dict[str, Any]) -> None:
    with pytest.raises(SlipwayError):
        agent.call(verb, document)


def test_a_record_of_something_else(agent: Agent, tmp_path: Path) -> None:
    folder = staged(agent, sent(agent, tmp_path))
    for text in ("[]", "{}", json.dumps({"manifest": "x"}), json.dumps({"manifest": hashlib.sha256(b"").hexdigest()})):
        (folder / "bundle.json").write_text(text)
        with pytest.raises((StateError, BundleError)):
            verify_release(agent.paths.root, folder, full=True)


@pytest.mark.parametrize("name", ["start.json", "seal.json", "release.json", "model.sig"])
def test_a_bundle_says_nothing_in_the_targets_name(agent: Agent, tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="the target's own name"):
        staged(agent, sent(agent, tmp_path, files={**FILES, name: b"{}"}))
