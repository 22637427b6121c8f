"""The far side of a request: what it answers, what it refuses, and that it leaves with its caller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slipway.config.merge import MergeConfig
from slipway.errors import ConfigError, ResourceError
from slipway.ops.remote_side import LEFT, VERBS, _Lines
from slipway.store.artifacts import Adapter, Engine
from slipway.store.store import Store, load
from tests.support.target import make_engine


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    store = Store(tmp_path / "store")
    with store.create(Adapter, "a", {}) as out:
        (out / "weights").write_bytes(b"w")
    return load(Adapter, store.dir("adapter", "a"))


def request(adapter: Adapter, **more: Any) -> dict[str, Any]:
    own = {"kind": "adapter", "key": adapter.key, "digest": adapter.digest}
    return {"store": str(adapter.path.parents[1]), **own, **more}


def test_has_and_inventory_differ_by_bytes_that_nobody_read(adapter: Adapter) -> None:
    listed = {"artifacts": {f"adapter/{adapter.key}": adapter.digest}}
    asked = request(adapter)
    assert (VERBS["has"](asked), VERBS["inventory"](asked)) == ({"has": True}, listed)
    (adapter.path / "weights").write_bytes(b"x")
    assert VERBS["inventory"](asked) == listed
    with pytest.warns(UserWarning, match="moved"):
        assert VERBS["has"](asked) == {"has": False}
    assert VERBS["inventory"](asked) == {"artifacts": {}}


def test_a_copy_is_taken_only_whole(adapter: Adapter, tmp_path: Path) -> None:
    incoming = tmp_path / "incoming" / adapter.digest
    incoming.parent.mkdir()
    adapter.path.rename(incoming)
    (incoming / "weights").write_bytes(b"x")
    asked = request(adapter, incoming=str(incoming))
    with pytest.raises(ResourceError, match=r"copy of adapter .*another sha256"):
        VERBS["take"](asked)
    assert not adapter.path.exists()
    (incoming / "weights").write_bytes(b"w")
    assert VERBS["take"](asked) == {}
    assert Store(tmp_path / "store").find(Adapter, "a") == adapter


def test_a_stage_with_another_key_here_is_refused(adapter: Adapter) -> None:
    params = MergeConfig().model_dump(mode="json")
    stage = {"stage": "merge", "params": params, "extra": {}, "stop_s": 1, "inputs": {"base": None, "adapter": None}}
    with pytest.raises(ConfigError, match="one version of Slipway on both machines"):
        VERBS["make"](request(adapter, **stage))


def test_a_request_is_answered_in_lines_and_left_when_its_caller_is_gone(adapter: Adapter) -> None:
    argv = [sys.executable, "-P", "-m", "slipway.ops.remote_side"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as side:
        assert side.stdin and side.stdout
        side.stdin.write(json.dumps(request(adapter, verb="has")) + "\n")
        side.stdin.flush()
        assert json.loads(side.stdout.readline()) == {"result": {"has": True}}
    assert side.returncode in (0, LEFT)
    assert subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode == LEFT


def test_a_silent_caller_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, writing = os.pipe()
    monkeypatch.setattr("slipway.ops.remote_side.SILENCE_S", 0.01)
    monkeypatch.setattr("slipway.ops.remote_side.STDIN", silent)
    assert _Lines().next() is None
    for end in (silent, writing):
        os.close(end)


def test_two_deliveries_of_one_store_leave_each_others_layers(tmp_path: Path) -> None:
    """Two orchestrators, each between having its layers cut and its target taking them; then both packing at once."""
    store = Store(tmp_path / "store")
    one, two = (make_engine(store, {"answer": answer}) for answer in ("{}", "{ }"))

    def cut(engine: Engine) -> tuple[set[str], dict[str, Any]]:
        result = VERBS["layers"]({"store": str(store.root), "key": engine.key})
        return {row["descriptor"]["digest"].removeprefix("sha256:") for row in result["layers"]}, result

    (first, a), (second, b) = cut(one), cut(two)
    assert first - second and second - first
    blobs = Path(a["blobs"])
    assert {file.name for file in blobs.iterdir()} == first | second, "the second removed nothing of the first"
    VERBS["delivered"]({"store": str(store.root), "claim": a["claim"]})
    VERBS["delivered"]({"store": str(store.root), "claim": b["claim"]})
    _, c = cut(two)
    assert {file.name for file in blobs.iterdir()} == second, "what was delivered goes with the next"
    VERBS["delivered"]({"store": str(store.root), "claim": c["claim"]})
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(cut, [one, two] * 8))
    present = {file.name for file in blobs.iterdir()}
    assert all(wanted <= present for wanted, _ in both)
