"""What MLflow is told, without MLflow; the flow room proves it with a real one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from slipway.config.load import Config
from slipway.config.tracking import TrackingConfig
from slipway.errors import ResourceError
from slipway.store.artifacts import Adapter, Verdict
from slipway.store.store import Store
from tasks.health import require_tracking
from tasks.loggable import flatten, numbers, shorter, small_files
from tasks.provenance import command_line, environment_digest, git_commit
from tasks.tracking import alias


def test_an_absent_server_is_a_resource_error_before_any_work() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(ResourceError, match=rf"MLflow: http://\*\*\*@127.0.0.1:{port} does not answer.*make up"):
        require_tracking(TrackingConfig(uri=f"http://me:pw@127.0.0.1:{port}"))


def test_file_and_database_uris_need_no_server() -> None:
    require_tracking(TrackingConfig(uri="sqlite:///nowhere.db"))


def test_flatten_names_every_leaf() -> None:
    flat = flatten(Config().model_dump(mode="json"))
    assert flat["train.rank"] == "16"
    assert flat["deploy.ports"] == "[8091, 8099]"
    assert flat["model.directory"] == "None"
    assert flatten({}) == {"": "{}"}


def test_numbers_leave_out_text_and_truth_values() -> None:
    assert numbers({"loss": 0.5, "steps": 3, "name": "x", "ok": True}) == {"loss": 0.5, "steps": 3.0}


def test_weights_and_large_files_stay_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.create(Adapter, "k", {}) as out:
        (out / "adapter_model.safetensors").write_bytes(b"w")
        (out / "summary.json").write_text("{}")
    with store.create(Verdict, "k", {}) as out:
        (out / "verdict.json").write_text("{}")
        (out / "big.jsonl").write_bytes(b"x" * 2_000_001)
    adapter, verdict = store.find(Adapter, "k"), store.find(Verdict, "k")
    assert adapter
    assert verdict
    assert [p.name for p in small_files(adapter)] == ["summary.json"]
    assert [p.name for p in small_files(verdict)] == ["manifest.json", "verdict.json"]


def test_a_long_card_is_cut_at_a_line_and_says_where_it_goes_on() -> None:
    card = "line of the card\n" * 500
    cut = shorter(card)
    assert len(cut) < 5000
    assert cut.splitlines()[-1].startswith("(continues in")
    assert card.startswith(cut.split("\n\n(continues")[0])
    assert shorter("short") == "short"


def test_alias_follows_the_policy_file() -> None:
    assert alias(Config()) == "local-champion"


def test_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_COMMAND", "slipway run tracking.uri=http://u:p@h")
    assert command_line() == "slipway run tracking.uri=http://***@h"
    assert len(git_commit().split("+")[0]) in (40, len("unknown"))
    assert environment_digest() == environment_digest()
    assert len(environment_digest()) == 64
