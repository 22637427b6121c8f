"""The verbs about bundles: trusted before they are unpacked, checked before a start."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from slipway.agent.agent import Agent
from slipway.agent.bundle import layers
from slipway.agent.bundle.signature import Trust, write_trust
from slipway.errors import BundleError, ResourceError, SlipwayError
from tests.support.bundles import FILES, NAME, key_pair, sent, staged


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "target")


def test_a_signed_bundle_becomes_a_sealed_release(agent: Agent, tmp_path: Path) -> None:
    key, public = key_pair(tmp_path)
    write_trust(agent.paths.root, Trust("enforce", (public,)))
    request, notes = sent(agent, key), list[str]()
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
    for full in (False, True):
        with pytest.raises(BundleError, match=r"card\.md: 42 bytes; expected 7"):
            agent.call("verify", {"release": NAME, "full": full})


def test_who_is_not_trusted_is_refused_before_anything_is_unpacked(agent: Agent, tmp_path: Path) -> None:
    key, _ = key_pair(tmp_path)
    _, public = key_pair(tmp_path / "other")
    write_trust(agent.paths.root, Trust("enforce", (public,)))
    for signing in (None, key):
        with pytest.raises(BundleError, match=r"not signed|signed by somebody else"):
            agent.call("receive", sent(agent, signing))
    assert not agent.paths.layers.exists()
    write_trust(agent.paths.root, Trust("warn", (public,)))
    assert agent.call("receive", sent(agent, key))["signed"].startswith("warning: signed by somebody else")


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


def test_a_full_disk_is_named_and_what_arrived_stays(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    request = sent(agent)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "layers/x")

    with monkeypatch.context() as patched:
        patched.setattr(layers, "_copy_range", full)
        with pytest.raises(ResourceError, match="full while writing layers/x"):
            agent.call("receive", request)
    assert agent.call("receive", request)["bundle"] == request["manifest"]
